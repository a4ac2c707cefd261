package fetch

import (
	"context"
	"encoding/json"
	"errors"
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

// maxIndex bounds a layout's index.json in bytes, maxEntries in entries.
const (
	maxIndex   = 8 << 20
	maxEntries = 100_000
)

// open opens the directory. If that is absent, it is not that objects are.
func (d layouts) open() (*os.Root, error) {
	root, err := os.OpenRoot(string(d))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, broken("layouts: %v", err)
	}
	return root, err
}

// Resolve finds a tag by its org.opencontainers.image.ref.name, bare or as the
// full reference.
func (d layouts) Resolve(_ context.Context, ref locator.Reference, _ []string) (ocispec.Descriptor, error) {
	root, err := d.open()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer root.Close()
	if ref.Digest != "" {
		return describe(root, ref)
	}
	full := ref.String()
	found, err := findIn(root, ref.Locator, func(m *entry) bool { return m.Annotations.Name == ref.Tag || m.Annotations.Name == full })
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if found == nil {
		return ocispec.Descriptor{}, fmt.Errorf("no such tag in %s: %w", path.Join(string(d), ref.Path, ocispec.ImageIndexFile), iofs.ErrNotExist)
	}
	dgst, err := locator.ParseDigest(found.Digest)
	if err != nil {
		return ocispec.Descriptor{}, broken("%s: %v", path.Join(string(d), ref.Path, ocispec.ImageIndexFile), err)
	}
	return ocispec.Descriptor{MediaType: found.MediaType, Digest: dgst, Size: found.Size}, nil
}

// describe tells the size of a blob; what index.json names, it names with its
// media type. A layout of blobs alone is one too.
func describe(root *os.Root, ref locator.Reference) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: octets, Digest: ref.Digest}
	file, size, err := openPlain(root, blobPath(ref.Locator, desc))
	if err != nil {
		return desc, err
	}
	file.Close()
	desc.Size = size
	if found, err := findIn(root, ref.Locator, func(m *entry) bool { return m.Digest == ref.Digest.String() }); err == nil && found != nil {
		desc.MediaType = found.MediaType
	}
	return desc, nil
}

// An entry is what is used of an entry of index.json.
type entry struct {
	MediaType   string `json:"mediaType"`
	Digest      string `json:"digest"`
	Size        int64  `json:"size"`
	Annotations struct {
		Name string `json:"org.opencontainers.image.ref.name"`
	} `json:"annotations"`
}

// findIn returns the first entry of a layout's index.json that is wanted, or
// nil. Of the others none is kept.
func findIn(root *os.Root, loc locator.Locator, want func(*entry) bool) (*entry, error) {
	name := path.Join(loc.Path, ocispec.ImageIndexFile)
	file, size, err := openPlain(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > maxIndex {
		return nil, broken("%s: more than %d bytes", name, maxIndex)
	}
	dec := json.NewDecoder(io.LimitReader(file, maxIndex))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, broken("%s: no JSON object", name)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, broken("%s: %v", name, err)
		}
		if key != "manifests" {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return nil, broken("%s: %v", name, err)
			}
			continue
		}
		found, err := findEntry(dec, want)
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil //nolint:nilnil // nothing wanted is there
}

func findEntry(dec *json.Decoder, want func(*entry) bool) (*entry, error) {
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, broken("%s: manifests is no list", ocispec.ImageIndexFile)
	}
	for n := 0; dec.More(); n++ {
		var m entry
		if err := dec.Decode(&m); err != nil {
			return nil, broken("%s: %v", ocispec.ImageIndexFile, err)
		}
		if n >= maxEntries {
			return nil, broken("%s: more than %d entries", ocispec.ImageIndexFile, maxEntries)
		}
		if want(&m) {
			return &m, nil
		}
	}
	_, err := dec.Token()
	return nil, err
}

// Get opens a blob's file at off.
func (d layouts) Get(_ context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, size, err := openPlain(root, blobPath(loc, desc))
	if err != nil {
		return nil, err
	}
	if size != desc.Size {
		file.Close()
		return nil, &sizeError{file.Name(), size, desc.Size}
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

// openPlain opens a regular file, and nothing else: a fifo must not hang it.
func openPlain(root *os.Root, name string) (*os.File, int64, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = broken("%s: not a regular file", name)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}
