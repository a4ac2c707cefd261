package formats

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A layout is the directory of an OCI image layout.
type layout string

func open(dir string) (layout, error) {
	l := layout(dir)
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return "", err
	}
	return l, os.WriteFile(filepath.Join(dir, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// write makes a blob of what content writes.
func (l layout) write(content func(io.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(string(l), "blob")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	h := sha256.New()
	if err := content(io.MultiWriter(f, h)); err != nil {
		return ocispec.Descriptor{}, errors.Join(err, os.Remove(f.Name()))
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{Digest: digest.NewDigest(digest.SHA256, h), Size: size}
	return desc, os.Rename(f.Name(), filepath.Join(string(l), "blobs", "sha256", desc.Digest.Encoded()))
}

func (l layout) document(mediaType string, v any) (ocispec.Descriptor, error) {
	desc, err := l.write(func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
	desc.MediaType = mediaType
	return desc, err
}

// image writes an image and names it.
func (l layout) image(tag string, config ocispec.Image, layers []ocispec.Descriptor) error {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: layers}
	var err error
	if m.Config, err = l.document(ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	desc, err := l.document(ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	path := filepath.Join(string(l), ocispec.ImageIndexFile)
	switch b, err := os.ReadFile(path); {
	case err == nil:
		if err := json.Unmarshal(b, &index); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	index.Manifests = append(index.Manifests, desc)
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
