package mkimage_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/mkimage"
)

const committed = "../../testdata/layouts/library/hello"

// image is an image's manifest and configuration as read from a layout.
type image struct {
	manifest ocispec.Manifest
	config   []byte
	layers   [][]byte // unpacked
}

// blob returns a blob whose digest and size hold.
func blob(t *testing.T, dir string, desc ocispec.Descriptor) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", desc.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(b); got != desc.Digest || int64(len(b)) != desc.Size {
		t.Fatalf("%s in %s has %d bytes and digest %s, want %d", desc.Digest, dir, len(b), got, desc.Size)
	}
	return b
}

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// read returns the images that a layout's tag 1 holds and checks all that they say.
func read(t *testing.T, dir string) []image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var top, index ocispec.Index
	unmarshal(t, b, &top)
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations[ocispec.AnnotationRefName] != "1" {
		t.Fatalf("%s/index.json is %s, want one image of the name 1", dir, b)
	}
	unmarshal(t, blob(t, dir, top.Manifests[0]), &index)
	var images []image
	for _, desc := range index.Manifests {
		var im image
		var config ocispec.Image
		unmarshal(t, blob(t, dir, desc), &im.manifest)
		im.config = blob(t, dir, im.manifest.Config)
		unmarshal(t, im.config, &config)
		for i, l := range im.manifest.Layers {
			z, err := gzip.NewReader(bytes.NewReader(blob(t, dir, l)))
			if err != nil {
				t.Fatal(err)
			}
			tar, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			if got := digest.FromBytes(tar); got != config.RootFS.DiffIDs[i] {
				t.Errorf("layer %d of %s unpacks to %s, want %s", i, desc.Digest, got, config.RootFS.DiffIDs[i])
			}
			im.layers = append(im.layers, tar)
		}
		images = append(images, im)
	}
	return images
}

// What the repository carries is what Write gives, up to gzip's compressor.
func TestCommittedIsWritten(t *testing.T) {
	dir := t.TempDir()
	if err := mkimage.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, want := read(t, committed), read(t, dir)
	if len(got) != len(want) || len(got) != 2 {
		t.Fatalf("there are %d images, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].config, want[i].config) {
			t.Errorf("configuration %d is %s, want %s: run testdata/mkimage.sh", i, got[i].config, want[i].config)
		}
	}
}

// The program is one that the kernel takes.
func TestProgramRuns(t *testing.T) {
	i, ok := map[string]int{"amd64": 0, "arm64": 1}[runtime.GOARCH]
	if !ok {
		t.Skipf("hello:1 has no platform linux/%s", runtime.GOARCH)
	}
	tar := read(t, committed)[i].layers[1]
	at := bytes.Index(tar, []byte("\x7fELF"))
	file := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(file, tar[at:at+512], 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), file).Output()
	if want := "Hello from an image that was mounted, not pulled.\n"; err != nil || string(out) != want {
		t.Errorf("hello said %q, %v, want %q", out, err, want)
	}
}
