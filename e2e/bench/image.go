package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image of four layers, like one that packages were installed into: many
// small files that compress well, a few large ones that do so less, files that
// change and go from layer to layer. Some 315 MB as gzip, 670 MB as files.
const (
	layerFiles = 5400
	imageTag   = "1"
)

// layerLibs is how many large files each layer has: layers are as unequal as
// those of images are.
var layerLibs = []int{14, 9, 26, 15}

// imageLayout makes the image, once, as an OCI image layout.
func (b *bench) imageLayout() (dir string, err error) {
	dir = b.path("image")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir+"/blobs/sha256", 0o755); err != nil {
		return "", err
	}
	l := layoutWriter(dir)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	config.RootFS.Type = "layers"
	for n := range layerLibs {
		desc, diffID, err := l.layer(n)
		if err != nil {
			return "", err
		}
		m.Layers = append(m.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	if m.Config, err = l.document(ocispec.MediaTypeImageConfig, config); err != nil {
		return "", err
	}
	desc, err := l.document(ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return "", err
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: imageTag}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(dir+"/index.json", index, 0o644); err != nil {
		return "", err
	}
	return dir, os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// A layoutWriter writes blobs into an OCI image layout.
type layoutWriter string

func (l layoutWriter) blob(d digest.Digest) string { return string(l) + "/blobs/sha256/" + d.Encoded() }

func (l layoutWriter) document(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return desc, os.WriteFile(l.blob(desc.Digest), b, 0o644)
}

// layer writes the n-th layer and returns it with the digest of its tar.
func (l layoutWriter) layer(n int) (ocispec.Descriptor, digest.Digest, error) {
	none := ocispec.Descriptor{}
	f, err := os.CreateTemp(string(l), "layer")
	if err != nil {
		return none, "", err
	}
	defer f.Close()
	blob, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, blob), gzip.DefaultCompression)
	if err != nil {
		return none, "", err
	}
	if err := writeTar(io.MultiWriter(z, plain), n); err != nil {
		return none, "", err
	}
	if err := z.Close(); err != nil {
		return none, "", err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return none, "", err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.NewDigest(digest.SHA256, blob), Size: size}
	return desc, digest.NewDigest(digest.SHA256, plain), os.Rename(f.Name(), l.blob(desc.Digest))
}

// writeTar writes the n-th layer's tar.
func writeTar(to io.Writer, n int) error {
	w := tar.NewWriter(to)
	r := rand.New(rand.NewChaCha8([32]byte{byte(n), 1}))
	words := vocabulary(r)
	put := func(h *tar.Header, content []byte) error {
		h.Size, h.ModTime = int64(len(content)), time.Unix(1_700_000_000+int64(n), 0)
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	for i := range layerFiles {
		if i%60 == 0 {
			name := fmt.Sprintf("usr/share/p%d/", i/60)
			if err := put(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("usr/share/p%d/f%d-%d", i/60, i, n*(i%2)) // every other one is replaced by the next layer
		size := 200 + r.IntN(1<<(8+r.IntN(9)))
		if err := put(&tar.Header{Name: name, Mode: 0o644}, text(r, words, size)); err != nil {
			return err
		}
		if n > 0 && i%100 == 1 { // and some are taken away
			gone := fmt.Sprintf("usr/share/p%d/.wh.f%d-%d", i/60, i, n-1)
			if err := put(&tar.Header{Name: gone, Mode: 0o600}, nil); err != nil {
				return err
			}
		}
	}
	for i := range layerLibs[n] { // programs and libraries
		content := text(r, words, 7<<20)
		noise(r, content[:1<<20])
		if err := put(&tar.Header{Name: fmt.Sprintf("usr/lib/lib%d-%d.so", n, i), Mode: 0o755}, content); err != nil {
			return err
		}
	}
	large := make([]byte, 4<<20)
	noise(r, large)
	if err := put(&tar.Header{Name: fmt.Sprintf("usr/lib/data%d", n), Mode: 0o644}, large); err != nil {
		return err
	}
	return w.Close()
}

func noise(r *rand.Rand, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
}

func vocabulary(r *rand.Rand) []string {
	words := make([]string, 4096)
	for i := range words {
		w := make([]byte, 2+r.IntN(9))
		for j := range w {
			w[j] = byte('a' + r.IntN(26))
		}
		words[i] = string(w) + " "
	}
	return words
}

// text returns size bytes that compress about as well as text does.
func text(r *rand.Rand, words []string, size int) []byte {
	var b bytes.Buffer
	b.Grow(size + 16)
	for b.Len() < size {
		b.WriteString(words[r.IntN(1+r.IntN(len(words)))])
		if r.IntN(12) == 0 {
			b.WriteString(strings.Repeat("\n", 1+r.IntN(2)))
		}
	}
	return b.Bytes()[:size]
}
