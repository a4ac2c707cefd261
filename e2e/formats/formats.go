// Package formats makes images whose layers have any of the formats that
// registries hold, as OCI image layouts: all of them of the same tars.
package formats

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/chunked/compressor"
)

// A Format is how the tar of a layer lies in its blob.
type Format int

// The formats.
const (
	Gzip        Format = iota // one gzip member
	GzipMembers               // many of them, as who compresses on many processors writes it
	Zstd                      // one frame
	EStargz                   // by the stargz-snapshotter: a tar of its own making, with a table of contents
	ZstdChunked               // by containers/storage: the tar, and a table of contents behind it
)

// memberSize is how much of a tar a member of GzipMembers holds. It is no
// multiple of a tar's blocks.
const memberSize = 1<<20 + 1

// Add adds an image to the OCI image layout dir, which it makes where there is
// none, under the name tag. Its layers are those of the files tars, lowest first,
// the first in the first of the formats and so on, and from the start again.
// Nobody else may write to the layout.
func Add(dir, tag string, tars []string, formats ...Format) error {
	l, err := open(dir)
	if err != nil {
		return err
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	config.RootFS.Type = "layers"
	var layers []ocispec.Descriptor
	for i, name := range tars {
		desc, diffID, err := l.layer(name, formats[i%len(formats)])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		layers = append(layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, ocispec.History{})
	}
	return l.image(tag, config, layers)
}

// layer writes the layer of a tar and returns it with the digest of what it
// decompresses to.
func (l layout) layer(name string, f Format) (ocispec.Descriptor, digest.Digest, error) {
	src, err := os.Open(name)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	defer src.Close()
	var diffID digest.Digest
	notes := make(map[string]string)
	desc, err := l.write(func(dst io.Writer) error {
		diffID, err = compress(dst, src, f, notes)
		return err
	})
	desc.MediaType = ocispec.MediaTypeImageLayerGzip
	if f == Zstd || f == ZstdChunked {
		desc.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	if len(notes) > 0 {
		desc.Annotations = notes
	}
	return desc, diffID, err
}

// compress writes src to dst in a format, and to notes what the layer's
// descriptor has to say of it. It returns the digest of what dst decompresses to.
func compress(dst io.Writer, src *os.File, f Format, notes map[string]string) (digest.Digest, error) {
	if f == EStargz {
		return stargz(dst, src, notes)
	}
	plain := sha256.New()
	from := io.TeeReader(src, plain)
	var err error
	switch f {
	case GzipMembers:
		err = members(dst, from)
	case Zstd:
		err = pipe(from)(zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1)))
	case ZstdChunked:
		level := 3
		said := make(map[string]string)
		err = pipe(from)(compressor.ZstdCompressor(dst, said, &level))
		maps.Copy(notes, said)
	default:
		err = pipe(from)(gzip.NewWriter(dst), nil)
	}
	return digest.NewDigest(digest.SHA256, plain), err
}

// pipe returns a function that writes all of src to a compressor and closes it.
func pipe(src io.Reader) func(dst io.WriteCloser, err error) error {
	return func(dst io.WriteCloser, err error) error {
		if err != nil {
			return err
		}
		_, err = io.Copy(dst, src)
		return errors.Join(err, dst.Close())
	}
}

func members(dst io.Writer, src io.Reader) error {
	z := gzip.NewWriter(dst)
	for {
		n, err := io.CopyN(z, src, memberSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		if n < memberSize {
			return nil
		}
		z.Reset(dst)
	}
}

func stargz(dst io.Writer, src *os.File, notes map[string]string) (digest.Digest, error) {
	info, err := src.Stat()
	if err != nil {
		return "", err
	}
	blob, err := estargz.Build(io.NewSectionReader(src, 0, info.Size()), estargz.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(dst, blob)
	notes[estargz.TOCJSONDigestAnnotation] = blob.TOCDigest().String()
	return blob.DiffID(), errors.Join(err, blob.Close())
}
