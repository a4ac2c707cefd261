package content

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// layerLock is the lock file in which byte useByte(layer) is locked by who makes that layer's index.
const layerLock = "layers"

// maxLayerIndex is the longest index of a layer, in bytes: some millions of entries.
const maxLayerIndex = 256 << 20

// LayerIndex returns the index of the layer dgst as KeepLayerIndex was given it, which is a use of it. It was not synced: what it says is
// true only if a checksum in it says so.
// The error is fs.ErrNotExist if none is kept.
func (s *Store) LayerIndex(dgst digest.Digest) ([]byte, error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, err
	}
	b, err := readUsed(s.indexPath(dgst))
	if err != nil {
		return nil, fmt.Errorf("index of %s: %w", dgst, bare(err))
	}
	return b, nil
}

func readUsed(path string) ([]byte, error) {
	f, err := openUsed(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	if size > maxLayerIndex {
		return nil, fmt.Errorf("%w: %d bytes are too many", iofs.ErrNotExist, size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

// KeepLayerIndex keeps what write writes, at most 256 MiB, as the index of the layer dgst, in the place of an older one. Where write
// fails nothing is kept.
func (s *Store) KeepLayerIndex(dgst digest.Digest, write func(io.Writer) error) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	path := s.indexPath(dgst)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = replace(s.path("ingest"), path, nil, func(f *os.File) error { return write(&bounded{f, maxLayerIndex}) })
	}
	if err != nil {
		return fmt.Errorf("index of %s: %w", dgst, noSpace(bare(err)))
	}
	return nil
}

// A bounded writer takes so many bytes more.
type bounded struct {
	io.Writer
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("it is too long")
	}
	return w.Writer.Write(p)
}

// IndexTurn takes the turn to make the index of the layer dgst, which one has at a time, in this process or another, until done
// is called or the process ends. ok is false while another has it.
func (s *Store) IndexTurn(dgst digest.Digest) (done func(), ok bool, err error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, false, err
	}
	lock, err := s.openLock(layerLock)
	if err == nil {
		ok, err = lock.try(useByte(dgst), 1)
	}
	if err != nil {
		err = fmt.Errorf("index of %s: %w", dgst, bare(err))
	}
	if lock != nil && !ok {
		lock.close()
	}
	if !ok {
		return nil, false, err
	}
	return func() { lock.close() }, true, nil
}

// DropLayerIndex removes the index of the layer dgst, which was found wrong. It need not be there.
func (s *Store) DropLayerIndex(dgst digest.Digest) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	if err := os.Remove(s.indexPath(dgst)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("index of %s: %w", dgst, bare(err))
	}
	return nil
}

// indexSuffix has the version of the format.
const indexSuffix = ".v1"

func (s *Store) indexPath(dgst digest.Digest) string {
	return s.path("cache", "index", digestName(dgst)+indexSuffix)
}

// HasLayerIndex says whether an index is kept for the layer dgst that begins with head. It is no use of it.
func (s *Store) HasLayerIndex(dgst digest.Digest, head []byte) bool {
	if s.checkBlob(dgst) != nil {
		return false
	}
	f, err := os.Open(s.indexPath(dgst))
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, len(head))
	_, err = io.ReadFull(f, b)
	return err == nil && bytes.Equal(b, head)
}
