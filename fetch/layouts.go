package fetch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"syscall"

	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layouts is a remote: a directory whose DIR/a/b is the OCI image layout of
// the repository HOST/a/b (image-spec v1.1, image-layout.md). What it names
// never leads out of the directory.
type layouts string

// maxIndex bounds a layout's index.json.
const maxIndex = 64 << 20

// Resolve finds a tag by its org.opencontainers.image.ref.name, bare or as the
// full reference.
func (d layouts) Resolve(_ context.Context, ref locator.Reference, _ []string) (ocispec.Descriptor, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer root.Close()
	if ref.Digest != "" {
		info, err := root.Stat(blobPath(ref.Locator, ocispec.Descriptor{Digest: ref.Digest}))
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if !info.Mode().IsRegular() {
			return ocispec.Descriptor{}, broken("%s: not a regular file", ref)
		}
		desc := ocispec.Descriptor{MediaType: octets, Digest: ref.Digest, Size: info.Size()}
		// What index.json names, it names with its media type.
		for _, m := range named(root, ref.Locator) {
			if m.Digest == ref.Digest {
				desc.MediaType = m.MediaType
			}
		}
		return desc, nil
	}
	index, err := readIndex(root, ref.Locator)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	full := ref.String()
	for _, m := range index {
		if name := m.Annotations[ocispec.AnnotationRefName]; name == ref.Tag || name == full {
			return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %w in %s", ref, iofs.ErrNotExist, path.Join(string(d), ref.Path, ocispec.ImageIndexFile))
}

func named(root *os.Root, loc locator.Locator) []ocispec.Descriptor {
	index, err := readIndex(root, loc)
	if err != nil {
		return nil // a layout of blobs alone is one too
	}
	return index
}

func readIndex(root *os.Root, loc locator.Locator) ([]ocispec.Descriptor, error) {
	file, err := openPlain(root, path.Join(loc.Path, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxIndex))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, broken("%s: %v", file.Name(), err)
	}
	return index.Manifests, nil
}

// Get opens a blob's file at off.
func (d layouts) Get(_ context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := openPlain(root, blobPath(loc, desc))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != desc.Size) {
		err = broken("%s: %d bytes of an object of %d", file.Name(), info.Size(), desc.Size)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Body{ReadCloser: section{io.NewSectionReader(file, off, n), file}, Offset: off, Len: n, From: file.Name()}, nil
}

func blobPath(loc locator.Locator, desc ocispec.Descriptor) string {
	return path.Join(loc.Path, ocispec.ImageBlobsDir, string(desc.Digest.Algorithm()), desc.Digest.Encoded())
}

// A section reads a part of a file and closes all of it.
type section struct {
	io.Reader
	io.Closer
}

// openPlain opens a file that may be anything: a fifo must not hang it.
func openPlain(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
