package transfer_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distfs/content"
	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }

// TestRoundTrip: what was exported and imported again is the same, to the digest
// of each object; exported once more it is the same bytes.
func TestRoundTrip(t *testing.T) {
	l := blobs{}
	one, two := l.image(t, "one"), l.index(t, l.image(t, "two"), l.image(t, "three"))
	first := openStore(t)
	im, err := importArchive(t, first, testlayer.Tar(t, l.files(t, called(one, "example.com/a:1"), called(two, "example.com/b:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	archive := export(t, first, asOCI, named(t, im)...)
	second := openStore(t)
	again, err := importArchive(t, second, archive)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, second, again)
	if len(again.Images) != 2 || again.Images[0].Desc.Digest != one.Digest || again.Images[1].Desc.Digest != two.Digest {
		t.Errorf("imported %+v", again.Images)
	}
	if got := export(t, second, asOCI, named(t, again)...); !bytes.Equal(got, archive) {
		t.Error("exported again it is another archive")
	}
	plain(t, archive)

	dir := filepath.Join(t.TempDir(), "layout")
	e, err := transfer.NewExport(t.Context(), first, named(t, im)...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	for range 2 { // also over what is there
		if err := exportInto(t, e, dir); err != nil {
			t.Fatal(err)
		}
	}
	third := openStore(t)
	back, err := transfer.ImportLayout(t.Context(), third, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Release()
	holds(t, third, back)
	if len(back.Images) != 2 || back.Images[1].Desc.Digest != two.Digest {
		t.Errorf("imported %+v", back.Images)
	}
}

// TestNested: what can be fetched and pushed can be exported and imported too, as
// deep as indexes may name one another.
func TestNested(t *testing.T) {
	l := blobs{}
	image := l.image(t, "deep")
	top := image
	for range 4 {
		top = l.index(t, top)
	}
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(top, "example.com/a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*transfer.Export, io.Writer) error{"oci": asOCI, "docker": asDocker} {
		other := openStore(t)
		back, err := importArchive(t, other, export(t, s, write, named(t, im)...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		holds(t, other, back)
	}
	want := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	if got, err := transfer.ForPlatform(s, top, want); err != nil || got.Digest != image.Digest {
		t.Errorf("ForPlatform = %s, %v, want %s", got.Digest, err, image.Digest)
	}
}

// plain says that an archive tells nothing of who made it, and when.
func plain(t *testing.T, archive []byte) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Mode&^0o755 != 0 {
			t.Errorf("entry %+v", h)
		}
	}
}

// TestExportRefused: what is not whole, damaged, or no image for docker.
func TestExportRefused(t *testing.T) {
	l := blobs{}
	image := l.image(t, "one")
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(image, "a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	wrong := image
	wrong.Size++
	if _, err := transfer.NewExport(t.Context(), s, transfer.Named{Name: "a:1", Desc: wrong}); err == nil {
		t.Error("an image of another size is exported")
	}
	artifact := blobs{}
	sbom := artifact.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: artifact.add(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{artifact.add("text/spdx", []byte("x"))},
	}))
	if _, err := importArchive(t, s, testlayer.Tar(t, artifact.files(t, called(sbom, "sbom:1"))...)); err != nil {
		t.Fatal(err)
	}
	e, err := transfer.NewExport(t.Context(), s, transfer.Named{Name: "sbom:1", Desc: sbom})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if err := asDocker(e, io.Discard); err == nil {
		t.Error("an SBOM is exported for docker")
	}
	if err := asOCI(e, io.Discard); err != nil {
		t.Errorf("an SBOM as an OCI archive: %v", err)
	}
	for _, desc := range im.Images[0].Objects {
		f, err := s.Blob(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		name := f.Name()
		f.Close()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(b)
		damaged[len(b)/2] ^= 1
		e, err := transfer.NewExport(t.Context(), s, named(t, im)...)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, name, damaged)
		if err := asOCI(e, io.Discard); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("with other bytes of %s: %v", desc.Digest, err)
		}
		e.Release()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if _, err := transfer.NewExport(t.Context(), s, named(t, im)...); !errors.Is(err, iofs.ErrNotExist) || !strings.Contains(err.Error(), desc.Digest.String()) {
			t.Errorf("without %s: %v", desc.Digest, err)
		}
		replace(t, name, b)
	}
}

func replace(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o444); err != nil {
		t.Fatal(err)
	}
}

// TestExportInto: what else a layout has stays, and what is no layout is left
// alone.
func TestExportInto(t *testing.T) {
	l := blobs{}
	one, two := l.image(t, "one"), l.image(t, "two")
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(one, "a:1"), called(two, "b:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	defer im.Release()
	dir := t.TempDir()
	other := called(two, "c:1")
	other.Annotations["x"] = "y"
	l.write(t, dir, called(two, "a:1"), other, two)
	e, err := transfer.NewExport(t.Context(), s, transfer.Named{Name: "a:1", Desc: one})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if err := exportInto(t, e, dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	var index ocispec.Index
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil || len(index.Manifests) != 3 {
		t.Fatalf("index.json is %s, %v", b, err)
	}
	if index.Manifests[0].Annotations["x"] != "y" || index.Manifests[2].Digest != one.Digest {
		t.Errorf("index.json is %s", b)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := exportInto(t, e, full); err == nil {
		t.Error("a directory of other things became a layout")
	}
	if list, err := os.ReadDir(full); err != nil || len(list) != 1 {
		t.Errorf("in it there are %v, %v", list, err)
	}
}

// TestExportStaysInside: a layout that another prepared has nothing read or
// written elsewhere, and a store is no layout to write into.
func TestExportStaysInside(t *testing.T) {
	l := blobs{}
	one := l.image(t, "one")
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(one, "a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	e, err := transfer.NewExport(t.Context(), s, named(t, im)...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	const secret = `{"auths":{"ghcr.io":{"auth":"c2VjcmV0"}}}`
	for _, name := range []string{"oci-layout", "index.json", "blobs", "blobs/sha256"} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "x")
			if strings.HasPrefix(name, "blobs") {
				err = os.Mkdir(outside, 0o755)
			} else {
				err = os.WriteFile(outside, []byte(secret), 0o600)
			}
			link := filepath.Join(dir, name)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(outside, link))
			if err != nil {
				t.Fatal(err)
			}
			if name != "oci-layout" {
				replace(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
			}
			if err := exportInto(t, e, dir); err == nil {
				t.Error("it is exported into")
			}
			if at, err := os.Readlink(link); err != nil || at != outside {
				t.Errorf("the link is replaced, %v", err)
			}
			if list, err := os.ReadDir(outside); err == nil && len(list) > 0 {
				t.Errorf("outside there is %v", list)
			}
		})
	}
	if err := exportInto(t, e, s.Dir()); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("exported into a store: %v", err)
	}
}

// TestExportDamaged: bytes of a layout that are not those of their digest are
// replaced; where they are the store's the error says so, and nothing is named.
func TestExportDamaged(t *testing.T) {
	l := blobs{}
	one := l.image(t, "one")
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(one, "a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	e, err := transfer.NewExport(t.Context(), s, named(t, im)...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	dir := filepath.Join(t.TempDir(), "l")
	if err := exportInto(t, e, dir); err != nil {
		t.Fatal(err)
	}
	blob := im.Images[0].Objects[0].Digest
	there := filepath.Join(dir, "blobs", "sha256", blob.Encoded())
	b, err := os.ReadFile(there)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Repeat([]byte("!"), len(b))
	replace(t, there, wrong)
	if err := exportInto(t, e, dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(there); err != nil || !bytes.Equal(got, b) {
		t.Errorf("there is %q, %v", got, err)
	}
	f, err := s.Blob(blob)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	replace(t, f.Name(), wrong)
	other := filepath.Join(t.TempDir(), "l")
	if err := exportInto(t, e, other); !errors.Is(err, transfer.ErrDamaged) {
		t.Errorf("exported what is damaged: %v", err)
	}
	if _, err := os.Stat(filepath.Join(other, "index.json")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("there is an index.json, %v", err)
	}
}

// TestExportByDigest: what has no name is exported without one, and what kind of
// manifest it is its bytes tell.
func TestExportByDigest(t *testing.T) {
	l := blobs{}
	two, three := l.image(t, "two"), l.image(t, "three")
	first, second := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	index := l.index(t, two, three)
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(index, "a:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	defer im.Release()
	archive := export(t, s, asOCI, transfer.Named{Desc: ocispec.Descriptor{Digest: index.Digest, Size: index.Size}})
	other := openStore(t)
	back, err := importArchive(t, other, archive)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, other, back)
	if got := back.Images[0]; got.Desc.Digest != index.Digest || got.Desc.MediaType != index.MediaType || len(got.Names) > 0 {
		t.Errorf("imported %+v", got)
	}
	got, err := transfer.ForPlatform(s, index, second)
	if err != nil || got.Digest != three.Digest {
		t.Errorf("ForPlatform = %v, %v", got, err)
	}
	if _, err := transfer.ForPlatform(s, got, first); err == nil {
		t.Error("the image for one platform is that for another")
	}
	var layer ocispec.Descriptor
	for _, desc := range im.Images[0].Objects {
		if desc.MediaType == ocispec.MediaTypeImageLayerGzip {
			layer = ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size}
		}
	}
	if e, err := transfer.NewExport(t.Context(), s, transfer.Named{Desc: layer}); err == nil {
		e.Release()
		t.Errorf("layer %s is exported as an image", layer.Digest)
	}
}

func exportInto(t *testing.T, e *transfer.Export, dir string) error {
	t.Helper()
	l, err := content.CreateLayout(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	return e.Layout(t.Context(), l)
}
