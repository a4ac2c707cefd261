package transfer_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestDockerArchive: layers are plain tars under their diff ids, an image of two
// names stands there once, and it can be imported.
func TestDockerArchive(t *testing.T) {
	l := blobs{}
	one := l.image(t, "one")
	index := l.index(t, one, l.image(t, "two"))
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(one, "example.com/a:1"), called(index, "example.com/b:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	images := append(named(t, im), transfer.Named{Name: "example.com/c@" + one.Digest.String(), Desc: one})
	archive := export(t, s, asDocker, images...)
	if !bytes.Equal(archive, export(t, s, asDocker, images...)) {
		t.Error("exported again it is another archive")
	}
	plain(t, archive)
	files := map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(archive))
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = b
	}
	var list []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil || len(list) != 1 {
		t.Fatalf("manifest.json is %s, %v", files["manifest.json"], err)
	}
	if got := strings.Join(list[0].RepoTags, " "); got != "example.com/a:1 example.com/b:1" {
		t.Errorf("RepoTags %s", got)
	}
	for _, name := range list[0].Layers {
		if digest.FromBytes(files[name]).Encoded()+".tar" != name {
			t.Errorf("%s has other bytes", name)
		}
	}
	if digest.FromBytes(files[list[0].Config]).Encoded()+".json" != list[0].Config {
		t.Errorf("%s has other bytes", list[0].Config)
	}
	other := openStore(t)
	back, err := importArchive(t, other, archive)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, other, back)
}

// TestDockerArchiveBadDate: what a config says besides of its layers keeps nobody from them.
func TestDockerArchiveBadDate(t *testing.T) {
	l := blobs{}
	layer := testlayer.Tar(t, testlayer.Reg("f", "f"))
	config := `{"created":"yesterday","os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digest.FromBytes(layer).String() + `"]}}`
	image := l.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: l.add(ocispec.MediaTypeImageConfig, []byte(config)), Layers: []ocispec.Descriptor{l.add(ocispec.MediaTypeImageLayerGzip, gzipped(t, layer))},
	}))
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(image, "example.com/a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	other := openStore(t)
	back, err := importArchive(t, other, export(t, s, asDocker, named(t, im)...))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, other, back)
}

// TestExportForeign: of a layer that is not for others to distribute, and did not come
// along, docker gets what a repository that has the image answered for, and not what the
// store has of another's.
func TestExportForeign(t *testing.T) {
	const secret = "what a private repository has"
	tar := testlayer.Tar(t, testlayer.Reg("f", secret))
	all := blobs{}
	private := described("application/vnd.oci.image.layer.nondistributable.v1.tar", tar)
	image := all.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{private},
		Config: all.add(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"rootfs":{"diff_ids":[%q]}}`, private.Digest)),
	}))
	s := openStore(t)
	if _, err := s.WriteBlob(t.Context(), "x", bytes.NewReader(tar), private.Size, private.Digest); err != nil {
		t.Fatal(err)
	}
	im, err := importArchive(t, s, testlayer.Tar(t, all.files(t, called(image, "example.com/a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	answers := func(repo string, desc ocispec.Descriptor) {
		t.Helper()
		if err := s.SetObject(repo, desc); err != nil {
			t.Fatal(err)
		}
	}
	answers("example.org/private", private)
	for _, desc := range im.Images[0].Objects {
		answers("example.com/a", desc)
	}
	e, err := transfer.NewExport(t.Context(), s, named(t, im)...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	var b bytes.Buffer
	if err := asDocker(e, &b); err == nil || strings.Contains(b.String(), secret) {
		t.Errorf("it was exported with another repository's layer, %v", err)
	}
	answers("example.com/a", private)
	if got := export(t, s, asDocker, named(t, im)...); !strings.Contains(string(got), secret) {
		t.Error("it was exported without its layer")
	}
}
