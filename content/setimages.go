package content

import (
	"fmt"
	iofs "io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexLock is the lock file whose first byte is held by who changes index.json.
const indexLock = "index"

// SetImages enters images into index.json, all or none, each under the name in its annotation
// org.opencontainers.image.ref.name, in the place of all others of that name. What is there besides, fields and entries that
// are not ours included, is kept. What says all that already is not written again. When it returns nil index.json outlives a power
// cut.
//
// Of an image the media type, digest, size, platform, annotations and artifact type are written. It must be whole: that all is here that it is
// made of, but for layers that are not for distribution, is looked at last of all, for what is held can still be deleted, or
// be found bad. If something is missing the error is fs.ErrNotExist. So that it stays, the caller holds each blob of it, as by
// [Store.Hold], from before it was looked for until SetImages has returned.
func (s *Store) SetImages(images ...ocispec.Descriptor) error {
	if err := s.check(); err != nil {
		return err
	}
	for _, image := range images {
		if image.Annotations[ocispec.AnnotationRefName] == "" {
			return fmt.Errorf("image %.200s: it has no name", image.Digest)
		}
	}
	return s.changeIndex(func(x *indexFile) (changed bool, err error) {
		for _, image := range images {
			put, err := x.put(image)
			if err == nil {
				err = s.whole(image)
			}
			if err != nil {
				return false, fmt.Errorf("image %.300q: %w", image.Annotations[ocispec.AnnotationRefName], err)
			}
			changed = changed || put
		}
		return changed, s.syncBlobs()
	})
}

// whole is an error that names what image lacks.
func (s *Store) whole(image ocispec.Descriptor) error {
	x, err := s.Extent(image)
	switch {
	case err != nil:
		return err
	case x.Blobs == 0:
		return checkDigest(image.Digest)
	case x.Absent == 1:
		return fmt.Errorf("blob %s: %w", x.Missing[0].Digest, iofs.ErrNotExist)
	case x.Absent > 1:
		return fmt.Errorf("%d blobs are missing, the first %s: %w", x.Absent, x.Missing[0].Digest, iofs.ErrNotExist)
	case x.Cut:
		return fmt.Errorf("it is of more than %d blobs", maxExtent)
	}
	return nil
}

// syncBlobs makes the names of all blobs durable. Another process may not have come to that yet.
func (s *Store) syncBlobs() error {
	dirs, err := readDir(s.path("blobs"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		if err := syncPath(s.path("blobs", dir.Name())); err != nil {
			return err
		}
	}
	return syncPath(s.path("blobs"))
}

// RemoveImages takes the images of these names out of index.json, and returns the digests of those that were there. Their
// blobs stay, to be evicted like others.
func (s *Store) RemoveImages(names ...string) ([]digest.Digest, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var gone []digest.Digest
	err := s.changeIndex(func(x *indexFile) (changed bool, err error) {
		for _, name := range names {
			gone = append(gone, x.remove(name)...)
		}
		return len(gone) > 0, nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// changeIndex has change change index.json, while nobody else does, and writes it if change says so. Who reads it sees the old or
// the new one.
func (s *Store) changeIndex(change func(*indexFile) (changed bool, err error)) error {
	lock, err := s.openLock(indexLock)
	if err != nil {
		return err
	}
	defer lock.close()
	if err := lock.wait(0); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	x, err := readIndex(s.path(ocispec.ImageIndexFile))
	if err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, bare(err))
	}
	changed, err := change(x)
	if err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	if !changed {
		return syncPath(s.dir) // who wrote it may not have come to that
	}
	b, err := x.encode()
	if err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	if err := writeAside(s.path("ingest"), s.path(ocispec.ImageIndexFile), b); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, noSpace(err))
	}
	return syncPath(s.dir)
}
