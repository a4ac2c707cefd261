package main_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// trees has the registry hold one image in every format that a layer may have:
// trees/tar:1, gzip, zstd, estargz and chunked.
func cmdTrees(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	m := &maker{t: t, ts: ts, reg: registryOf(ts)}
	layers := [][]testlayer.File{lowerTree(), upperTree(), topTree()}
	for _, format := range []struct {
		name, mediaType string
		pack            func(files []testlayer.File) ([]byte, map[string]string)
	}{
		{"tar", ocispec.MediaTypeImageLayer, func(f []testlayer.File) ([]byte, map[string]string) { return testlayer.Tar(t, f...), nil }},
		{"gzip", ocispec.MediaTypeImageLayerGzip, func(f []testlayer.File) ([]byte, map[string]string) {
			return testlayer.Gzip(t, testlayer.Tar(t, f...)), nil
		}},
		{"zstd", ocispec.MediaTypeImageLayerZstd, func(f []testlayer.File) ([]byte, map[string]string) {
			return testlayer.Zstd(t, testlayer.Tar(t, f...)), nil
		}},
		{"estargz", ocispec.MediaTypeImageLayerGzip, func(f []testlayer.File) ([]byte, map[string]string) {
			return testlayer.EStargz(t, &testlayer.Chunking{Size: 256 << 10}, f...)
		}},
		{"chunked", ocispec.MediaTypeImageLayerZstd, func(f []testlayer.File) ([]byte, map[string]string) {
			return testlayer.ZstdChunked(t, &testlayer.Chunking{Size: 256 << 10}, f...)
		}},
	} {
		m.repo = "trees/" + format.name
		var ids []digest.Digest
		var descs []ocispec.Descriptor
		for _, files := range layers {
			blob, annotations := format.pack(files)
			plain, err := layer.Decompress(bytes.NewReader(blob))
			ts.Check(err)
			b, err := io.ReadAll(plain)
			ts.Check(err)
			plain.Close()
			ids = append(ids, digest.FromBytes(b))
			desc := m.blob(format.mediaType, blob)
			desc.Annotations = annotations
			descs = append(descs, desc)
		}
		name := strings.ToUpper(format.name)
		m.named(name+"_LOWER", descs[0])
		m.image(name+"_IMAGE", "1", ids, descs...)
	}
}

// whole is when all files were modified, for eStargz has no parts of a second.
var whole = time.Unix(1_700_000_000, 0)

func noise(seed uint64, n int) string {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(b)
	return string(b)
}

func with(f testlayer.File, change func(*tar.Header)) testlayer.File {
	change(&f.Header)
	return f
}

func lowerTree() []testlayer.File {
	files := []testlayer.File{
		testlayer.Dir("."), testlayer.Dir("etc"), testlayer.Dir("bin"), testlayer.Dir("usr"), testlayer.Dir("usr/lib"),
		testlayer.Symlink("lib", "usr/lib"), testlayer.Symlink("etc/away", "/../../outside"), testlayer.Symlink("etc/loop", "loop"),
		testlayer.Reg("etc/passwd", "root:x:0:0\n"), testlayer.Reg("etc/empty", ""), testlayer.Reg("etc/gone", "gone\n"),
		with(testlayer.Reg("bin/su", noise(1, 70_000)), func(h *tar.Header) { h.Mode = 0o4755 }),
		with(testlayer.Reg("bin/ping", "ping\n"), func(h *tar.Header) {
			h.PAXRecords = map[string]string{
				"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"SCHILY.xattr.user.note":           "a note",
			}
		}),
		testlayer.Link("bin/ping4", "bin/ping"), testlayer.Link("bin/ping6", "bin/ping"),
		with(testlayer.Reg("etc/shadow", "secret\n"), func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o600, 100_000, 70_000 }),
		with(testlayer.Dir("tmp"), func(h *tar.Header) { h.Mode = 0o1777 }),
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "tmp/fifo", Mode: 0o600}},
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "tmp/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "tmp/disk", Mode: 0o660, Devmajor: 259, Devminor: 70000}},
		testlayer.Reg("tmp/"+strings.Repeat("n", 255), "long\n"),
		testlayer.Reg("tmp/"+strings.Repeat("deep/", 40)+"file", "deep\n"),
		with(testlayer.Reg("tmp/old", "old\n"), func(h *tar.Header) { h.ModTime = time.Unix(-86_400*365*20, 0) }),
		testlayer.Reg("usr/lib/large", noise(2, 3<<20+17)), testlayer.Reg("usr/lib/libc.so", "libc 1\n"),
		testlayer.Dir("opt"), testlayer.Dir("opt/opaque"), testlayer.Reg("opt/opaque/below", "below\n"),
		testlayer.Dir("opt/dir"), testlayer.Reg("opt/dir/in", "in\n"), testlayer.Reg("opt/file", "file\n"),
		testlayer.Reg("opt/twice", "once\n"), testlayer.Reg("opt/twice", "twice\n"), testlayer.Reg("opt/linked", "linked\n"),
		testlayer.Dir("many"),
	}
	for i := range 300 {
		files = append(files, testlayer.Reg(fmt.Sprintf("many/%03d", i), fmt.Sprintln("file", i)))
	}
	return wholeSeconds(files)
}

func upperTree() []testlayer.File {
	return wholeSeconds([]testlayer.File{
		testlayer.Dir("etc"), testlayer.Reg("etc/.wh.gone", ""), testlayer.Reg("etc/passwd", "root:x:0:0\nuser:x:1:1\n"),
		testlayer.Reg("lib/libc.so", "libc 2\n"), // through the link
		testlayer.Dir("opt/opaque"), testlayer.Reg("opt/opaque/.wh..wh..opq", ""), testlayer.Reg("opt/opaque/above", "above\n"),
		testlayer.Reg("opt/dir", "a file now\n"), testlayer.Dir("opt/file"), testlayer.Reg("opt/file/in", "a directory now\n"),
		testlayer.Link("opt/link", "opt/linked"), testlayer.Reg("bin/.wh.ping", ""),
		testlayer.Reg("srv/www/index.html", "without parents\n"),
	})
}

func topTree() []testlayer.File {
	return wholeSeconds([]testlayer.File{
		testlayer.Reg("opt/.wh.nothing", ""), testlayer.Reg("nowhere/.wh.nothing", ""), testlayer.Reg("many/.wh.007", ""),
		with(testlayer.Dir("etc"), func(h *tar.Header) { h.Mode = 0o750 }),
	})
}

func wholeSeconds(files []testlayer.File) []testlayer.File {
	for i := range files {
		if files[i].ModTime.IsZero() {
			files[i].ModTime = whole
		}
	}
	return files
}

// sametree A B: two directories have the same files, to the last attribute.
func cmdSameTree(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sametree A B")
	}
	a, err := testlayer.ReadTree(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := testlayer.ReadTree(ts.MkAbs(args[1]))
	ts.Check(err)
	var names, differ []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		if _, both := a[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if a[name] != b[name] {
			differ = append(differ, fmt.Sprintf("%q: %s\n\t%s", name, a[name], b[name]))
		}
	}
	if len(differ) > 0 {
		ts.Fatalf("%d of %d differ:\n%s", len(differ), len(names), strings.Join(differ[:min(len(differ), 20)], "\n"))
	}
	if len(a) < 2 {
		ts.Fatalf("%s is empty", args[0])
	}
}
