package main_test

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"

	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// modelSize is that of $MODEL: what is smaller is fetched whole when it is opened.
const modelSize = 64 << 20

// artifacts has the registry hold models/titled:1, an artifact of $MODEL as
// weights/model.gguf, which begins with GGUF, of a chart as chart.tgz, and of
// $OUTSIDE, which is called ../outside.
func cmdArtifacts(ts *testscript.TestScript, _ bool, _ []string) {
	m := &maker{ts: ts, reg: registryOf(ts), repo: "models/titled"}
	model := func(off int64) io.Reader {
		const magic = "GGUF"
		rest := testregistry.Synthetic{Seed: 5, Size: modelSize - int64(len(magic))}
		if off < int64(len(magic)) {
			return io.MultiReader(bytes.NewReader([]byte(magic[off:])), rest.From(0))
		}
		return rest.From(off - int64(len(magic)))
	}
	dgst, err := digest.FromReader(model(0))
	ts.Check(err)
	m.reg.AddBlobFunc(m.repo, dgst, modelSize, model)
	weights := m.named("MODEL", ocispec.Descriptor{MediaType: "application/vnd.test.model.gguf", Digest: dgst, Size: modelSize})
	chart := m.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", []byte("a chart\n"))
	outside := m.named("OUTSIDE", m.blob("text/plain", []byte("outside\n")))
	for title, desc := range map[string]*ocispec.Descriptor{"weights/model.gguf": &weights, "chart.tgz": &chart, "../outside": &outside} {
		desc.Annotations = map[string]string{ocispec.AnnotationTitle: title}
	}
	m.manifest("TITLED", "1", ocispec.Manifest{
		ArtifactType: "application/vnd.test.model", Config: m.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{weights, chart, outside},
	})
}

// vast has the registry hold hostile/vast:1, the manifest $VAST of 100 MB.
func cmdVast(ts *testscript.TestScript, _ bool, _ []string) {
	m := &maker{ts: ts, reg: registryOf(ts), repo: "hostile/vast"}
	m.manifest("VAST", "1", ocispec.Manifest{
		Config: m.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{},
		Annotations: map[string]string{"filler": strings.Repeat("x", 100_000_000)},
	})
}

// mapped FILE OFFSET: a page of the file that is mapped there is as it is read.
func cmdMapped(ts *testscript.TestScript, _ bool, args []string) {
	off, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), off, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	ts.Check(err)
	mapped := bytes.Clone(page)
	ts.Check(unix.Munmap(page))
	read := make([]byte, len(mapped))
	_, err = f.ReadAt(read, off)
	ts.Check(err)
	if !bytes.Equal(mapped, read) {
		ts.Fatalf("%s at %d is %x mapped, and %x read", args[0], off, mapped[:16], read[:16])
	}
}
