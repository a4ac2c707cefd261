package content

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Info is what the store knows of a blob.
type Info struct {
	Digest    digest.Digest
	Size      int64
	Committed time.Time
}

// Blob opens the blob dgst for reading, which is a use of it. The caller closes it. It can be evicted meanwhile, and is read on
// all the same; who wants it to stay has it held before.
// The error is fs.ErrNotExist if the store doesn't have it.
func (s *Store) Blob(dgst digest.Digest) (*os.File, error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, err
	}
	f, err := openUsed(s.blobPath(dgst))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	return f, nil
}

// openUsed opens the file path for reading, which is a use of it.
func openUsed(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err == nil {
		used(path, &st)
	}
	return f, nil
}

// Stat returns what the store knows of the blob dgst, without opening it.
// The error is fs.ErrNotExist if the store doesn't have it.
func (s *Store) Stat(dgst digest.Digest) (Info, error) {
	if err := s.checkBlob(dgst); err != nil {
		return Info{}, err
	}
	fi, err := os.Lstat(s.blobPath(dgst))
	if err != nil {
		return Info{}, fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	if !fi.Mode().IsRegular() {
		return Info{}, fmt.Errorf("blob %s: %w: it is no file", dgst, iofs.ErrNotExist)
	}
	return Info{Digest: dgst, Size: fi.Size(), Committed: fi.ModTime()}, nil
}

// Blobs returns all blobs, sorted by digest. A name that is no digest is left out.
func (s *Store) Blobs() ([]Info, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	algs, err := os.ReadDir(s.path("blobs"))
	if err != nil {
		return nil, err
	}
	var infos []Info
	for _, alg := range algs {
		entries, err := os.ReadDir(s.path("blobs", alg.Name()))
		if err != nil {
			continue // no directory, and so no algorithm
		}
		for _, e := range entries {
			dgst := digest.Digest(alg.Name() + ":" + e.Name())
			info, err := s.Stat(dgst)
			if err != nil {
				continue // deleted meanwhile, or not ours
			}
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// Delete removes the blob dgst. Who has it open reads on.
// The error is fs.ErrNotExist if the store doesn't have it.
func (s *Store) Delete(dgst digest.Digest) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	if err := os.Remove(s.blobPath(dgst)); err != nil {
		return fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	return nil
}

func (s *Store) checkBlob(dgst digest.Digest) error {
	if err := s.check(); err != nil {
		return err
	}
	return checkDigest(dgst)
}

// checkDigest refuses what is no digest, and thereby what could lead out of the store.
func checkDigest(dgst digest.Digest) error {
	if err := dgst.Validate(); err != nil {
		return fmt.Errorf("digest %.200q: %w", string(dgst), err)
	}
	return nil
}

// bare takes path and call off an error whose context is added by the caller.
func bare(err error) error {
	if pe, ok := errors.AsType[*iofs.PathError](err); ok {
		return pe.Err
	}
	return err
}
