package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testlayer"
	"distfs/internal/testregistry"
)

// TestPullAsUmoci pulls images, whose layers are gzip, zstd, and eStargz, into
// trees, and compares these with what umoci makes of the same files.
func TestPullAsUmoci(t *testing.T) {
	needUmoci(t)
	bin := build(t)
	images := unpackImages()
	for _, name := range []string{"base", "chance1", "chance2", "chance3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pullAsUmoci(t, bin, images[name])
		})
	}
}

func pullAsUmoci(t *testing.T, bin string, image [][]testlayer.File) {
	t.Helper()
	begun, dir := time.Now().Add(-time.Second), t.TempDir()
	layout, bundle, rootfs := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle"), filepath.Join(dir, "rootfs")
	var tars [][]byte
	for _, files := range image {
		tars = append(tars, testlayer.Tar(t, files...))
	}
	writeLayout(t, layout, tars)
	if out, err := exec.Command("umoci", "unpack", "--image", layout+":1", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v: %s", err, out)
	}
	reg := testregistry.Start(t, nil)
	putImage(t, reg, image)
	cmd := exec.Command(bin, "pull", "--progress", "none", reg.Host()+"/app:1", rootfs)
	cmd.Env = append(os.Environ(), "DISTFS_STORE="+filepath.Join(dir, "store"))
	for range 2 { // the second finds a tree that is whole
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("distfs pull: %v: %s", err, out)
		}
		compareTrees(t, filepath.Join(bundle, "rootfs"), rootfs, begun, image)
		again := exec.Command(cmd.Path, cmd.Args[1:]...)
		again.Env, cmd = cmd.Env, again
	}
}

// putImage puts an image into reg as app:1, its layers gzip, zstd and as
// eStargz has them, in turn.
func putImage(t *testing.T, reg *testregistry.Registry, image [][]testlayer.File) {
	t.Helper()
	const repo = "app"
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: reg.AddBlob(repo, b), Size: int64(len(b))}
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, files := range image {
		tar := testlayer.Tar(t, files...)
		mediaType, b := ocispec.MediaTypeImageLayerGzip, []byte(nil)
		var annotations map[string]string
		switch i % 3 {
		case 0:
			b = testlayer.Gzip(t, tar)
		case 1:
			mediaType, b = ocispec.MediaTypeImageLayerZstd, testlayer.Zstd(t, tar)
		case 2: // a member for each file, and the table of contents after them
			toc := fmt.Sprintf(`{"version":1,"entries":%d}`, len(files))
			annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString(toc).String()}
			tar = testlayer.Tar(t, append(append([]testlayer.File{testlayer.Reg(".prefetch.landmark", "\x0f")}, files...), testlayer.Reg("stargz.index.json", toc))...)
			for at := 0; at < len(tar); at += 512 * 7 {
				b = append(b, testlayer.Gzip(t, tar[at:min(at+512*7, len(tar))])...)
			}
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		desc := put(mediaType, b)
		desc.Annotations = annotations
		m.Layers = append(m.Layers, desc)
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m.Config = put(ocispec.MediaTypeImageConfig, b)
	if b, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	reg.AddManifest(repo, "1", m.MediaType, b)
}
