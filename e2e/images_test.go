package e2e_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testregistry"
)

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// An image is what a repository is to hold.
type image struct {
	repo, tag string
	blobs     [][]byte
	manifests []manifest        // the last one is what the tag names
	names     map[string]string // of the stories' environment
}

type manifest struct {
	mediaType string
	bytes     []byte
}

func (im *image) put(t *testing.T, h holder) {
	t.Helper()
	for _, b := range im.blobs {
		h.putBlob(t, im.repo, b)
	}
	for i, m := range im.manifests {
		h.putManifest(t, im.repo, digest.FromBytes(m.bytes).String(), m.mediaType, m.bytes)
		if i == len(im.manifests)-1 {
			h.putManifest(t, im.repo, im.tag, m.mediaType, m.bytes)
		}
	}
}

func testImages(t *testing.T) []*image {
	t.Helper()
	return []*image{hello(t), redis(t), big(t)}
}

// hello is the image of testdata/layouts.
func hello(t *testing.T) *image {
	t.Helper()
	const dir = "../testdata/layouts/library/hello"
	im := &image{repo: "library/hello", tag: "1"}
	read := func(desc ocispec.Descriptor) []byte {
		b, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", desc.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	top, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	indexDesc := unmarshal[ocispec.Index](t, top).Manifests[0]
	indexBytes := read(indexDesc)
	for i, desc := range unmarshal[ocispec.Index](t, indexBytes).Manifests {
		b := read(desc)
		m := unmarshal[ocispec.Manifest](t, b)
		im.manifests = append(im.manifests, manifest{desc.MediaType, b})
		im.blobs = append(im.blobs, read(m.Config))
		for _, l := range m.Layers {
			im.blobs = append(im.blobs, read(l))
		}
		if i == hostPlatform(t) {
			im.names = map[string]string{
				"HELLO": indexDesc.Digest.String(), "HELLO_MANIFEST": desc.Digest.String(),
				"HELLO_CONFIG": m.Config.Digest.String(), "HELLO_LAYER": m.Layers[len(m.Layers)-1].Digest.String(),
			}
		}
	}
	im.manifests = append(im.manifests, manifest{indexDesc.MediaType, indexBytes})
	return im
}

// redis is an image of docker's media types with fifteen layers from 1 byte to 9 MiB.
func redis(t *testing.T) *image {
	t.Helper()
	im := &image{repo: "library/redis", tag: "7"}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerManifest}
	m.Config = im.blob(dockerConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	for i, size := range []int64{1, 100, 4095, 4096, 4097, 60000, 1 << 20, 1<<20 + 1, 3 << 20, 4 << 20, 4<<20 + 1, 9 << 20, 77777, 500000, 31} {
		m.Layers = append(m.Layers, im.blob(dockerLayer, noise(t, uint64(i)+1, size)))
	}
	im.manifest(t, dockerManifest, m)
	im.names = map[string]string{"REDIS": digest.FromBytes(im.manifests[0].bytes).String()}
	return im
}

// big is an artifact of one blob that is larger than what is verified before it is served.
func big(t *testing.T) *image {
	t.Helper()
	im := &image{repo: "library/big", tag: "1"}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.model"}
	m.Config = im.blob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	m.Layers = []ocispec.Descriptor{im.blob("application/octet-stream", noise(t, 100, 24<<20))}
	im.manifest(t, m.MediaType, m)
	im.names = map[string]string{"BIG": m.Layers[0].Digest.String()}
	return im
}

func (im *image) blob(mediaType string, b []byte) ocispec.Descriptor {
	im.blobs = append(im.blobs, b)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func (im *image) manifest(t *testing.T, mediaType string, m ocispec.Manifest) {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	im.manifests = append(im.manifests, manifest{mediaType, b})
}

// noise returns size bytes that do not compress, the same ones for a seed.
func noise(t *testing.T, seed uint64, size int64) []byte {
	t.Helper()
	b, err := io.ReadAll(testregistry.Synthetic{Seed: seed, Size: size}.From(0))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unmarshal[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
