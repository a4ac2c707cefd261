// Package mkimage makes hello:1, the small image that the repository carries in testdata/layouts.
//
// It is an image for two platforms that runs (its one program says hello), made of nothing
// but what stands here: no compiler, no foreign files, no dates. Each platform has three
// gzip layers; the first and the last are the same for both:
//
//	0  etc/, home/, tmp/            text files, a file that layer 2 takes away again
//	1  bin/hello, usr/bin/hello     the program, a hard link and a symlink to it
//	2  usr/share/hello/noise.bin    1.25 MiB that do not compress; a whiteout, a changed file
//
// Apart from gzip, whose compressor may differ between releases of Go, every run gives the same bytes.
package mkimage

import (
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // the digests' algorithm
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Write writes the image into dir, which it makes, as an OCI image layout. Other
// files in dir stay. In index.json the image's name is its tag, 1.
func Write(dir string) error {
	l := &layout{dir: dir}
	base, end := l.layer(baseFiles()), l.layer(noiseFiles())
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range []struct {
		platform ocispec.Platform
		program  []byte
	}{
		{ocispec.Platform{OS: "linux", Architecture: "amd64"}, amd64Program()},
		{ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, arm64Program()},
	} {
		desc := l.image(p.platform, base, l.layer(programFiles(p.program)), end)
		desc.Platform = &p.platform
		index.Manifests = append(index.Manifests, desc)
	}
	top := l.json(ocispec.MediaTypeImageIndex, index)
	top.Annotations = map[string]string{ocispec.AnnotationRefName: "1"}
	l.file("index.json", marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top},
	}))
	l.file(ocispec.ImageLayoutFile, marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}))
	return l.err
}

// A layer is one that was written.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// A layout is a directory being written; after an error nothing more is.
type layout struct {
	dir string
	err error
}

// image writes a platform's manifest and configuration.
func (l *layout) image(p ocispec.Platform, layers ...layer) ocispec.Descriptor {
	created := time.Unix(0, 0).UTC()
	config := ocispec.Image{
		Created: &created, Platform: p, RootFS: ocispec.RootFS{Type: "layers"},
		Config: ocispec.ImageConfig{Cmd: []string{"/bin/hello"}, Env: []string{"PATH=/bin:/usr/bin"}, WorkingDir: "/home/hello"},
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.diffID)
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "testdata/mkimage.sh"})
		m.Layers = append(m.Layers, layer.desc)
	}
	m.Config = l.json(ocispec.MediaTypeImageConfig, config)
	return l.json(ocispec.MediaTypeImageManifest, m)
}

// layer writes files as a gzip layer.
func (l *layout) layer(files []file) layer {
	tar, err := tarOf(files)
	if err != nil {
		l.err = err
		return layer{}
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(tar)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		l.err = err
	}
	return layer{l.blob(ocispec.MediaTypeImageLayerGzip, b.Bytes()), digest.FromBytes(tar)}
}

func (l *layout) json(mediaType string, v any) ocispec.Descriptor {
	return l.blob(mediaType, marshal(v))
}

func (l *layout) blob(mediaType string, b []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	l.file(filepath.Join(ocispec.ImageBlobsDir, desc.Digest.Algorithm().String(), desc.Digest.Encoded()), b)
	return desc
}

func (l *layout) file(name string, b []byte) {
	name = filepath.Join(l.dir, name)
	if l.err == nil {
		l.err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if l.err == nil {
		l.err = os.WriteFile(name, b, 0o644)
	}
}

// marshal is for what cannot fail: the specification's own types.
func marshal(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}
