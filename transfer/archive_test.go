package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distfs/content"
	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func openStore(t *testing.T) *content.Store {
	t.Helper()
	s, err := content.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func encode(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func described(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// blobs are those of a layout, by digest.
type blobs map[digest.Digest][]byte

func (l blobs) add(mediaType string, b []byte) ocispec.Descriptor {
	desc := described(mediaType, b)
	l[desc.Digest] = b
	return desc
}

func gzipped(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return z.Bytes()
}

// image adds an image of two layers, the second one with this text in it.
func (l blobs) image(tb testing.TB, text string) ocispec.Descriptor {
	tb.Helper()
	layers := [][]byte{testlayer.Tar(tb, testlayer.Reg("base", strings.Repeat("base", 1000))), testlayer.Tar(tb, testlayer.Reg("text", text))}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, b := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(b))
		m.Layers = append(m.Layers, l.add(ocispec.MediaTypeImageLayerGzip, gzipped(tb, b)))
	}
	m.Config = l.add(ocispec.MediaTypeImageConfig, encode(tb, config))
	return l.add(m.MediaType, encode(tb, m))
}

// index adds an index of images, which are for different platforms.
func (l blobs) index(tb testing.TB, images ...ocispec.Descriptor) ocispec.Descriptor {
	tb.Helper()
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, desc := range images {
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "s390x", "riscv64"}[i]}
		x.Manifests = append(x.Manifests, desc)
	}
	return l.add(x.MediaType, encode(tb, x))
}

func called(desc ocispec.Descriptor, name string) ocispec.Descriptor {
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	return desc
}

// files are an OCI archive's, of blobs and the entries of its index.json.
func (l blobs) files(tb testing.TB, entries ...ocispec.Descriptor) []testlayer.File {
	tb.Helper()
	files := []testlayer.File{testlayer.Reg("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), testlayer.Dir("blobs/")}
	for dgst, b := range l {
		files = append(files, testlayer.Reg(blobFile(dgst), string(b)))
	}
	return append(files, testlayer.Reg("index.json", indexOf(tb, entries...)))
}

func blobFile(dgst digest.Digest) string { return "blobs/sha256/" + dgst.Encoded() }

func indexOf(tb testing.TB, entries ...ocispec.Descriptor) string {
	tb.Helper()
	return string(encode(tb, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: entries}))
}

// write writes the blobs as a layout.
func (l blobs) write(tb testing.TB, dir string, entries ...ocispec.Descriptor) {
	tb.Helper()
	for _, f := range l.files(tb, entries...) {
		if f.Typeflag != tar.TypeReg {
			continue
		}
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f.Content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

func importArchive(t *testing.T, s transfer.ArchiveStore, archive []byte) (*transfer.Import, error) {
	t.Helper()
	// Nothing that could be sought in: a pipe.
	im, err := transfer.ImportArchive(t.Context(), s, io.MultiReader(bytes.NewReader(archive)), "test")
	if err == nil {
		t.Cleanup(im.Release)
	}
	return im, err
}

// holds says whether the store has all objects of an image, by reading them.
func holds(t *testing.T, s *content.Store, im *transfer.Import) {
	t.Helper()
	for _, one := range im.Images {
		if len(one.Objects) == 0 {
			t.Errorf("image %v is made of nothing", one.Names)
		}
		for _, desc := range one.Objects {
			f, err := s.Blob(desc.Digest)
			if err != nil {
				t.Errorf("image %v: %v", one.Names, err)
				continue
			}
			b, err := io.ReadAll(f)
			f.Close()
			if err != nil || digest.FromBytes(b) != desc.Digest || int64(len(b)) != desc.Size || desc.MediaType == "" {
				t.Errorf("image %v: %+v: %d bytes, %v", one.Names, desc, len(b), err)
			}
		}
	}
}

// named enters the images of an import under their names and returns them.
func named(t *testing.T, im *transfer.Import) []transfer.Named {
	t.Helper()
	var list []transfer.Named
	for _, one := range im.Images {
		for _, name := range one.Names {
			list = append(list, transfer.Named{Name: name, Desc: one.Desc})
		}
	}
	return list
}

func export(t *testing.T, s *content.Store, write func(*transfer.Export, io.Writer) error, images ...transfer.Named) []byte {
	t.Helper()
	e, err := transfer.NewExport(t.Context(), s, images...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	var b bytes.Buffer
	if err := write(e, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asOCI(e *transfer.Export, w io.Writer) error { return e.OCIArchive(context.Background(), w) }

func asDocker(e *transfer.Export, w io.Writer) error {
	return e.DockerArchive(context.Background(), w, ocispec.Platform{OS: "linux", Architecture: "amd64"})
}
