package content

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// A Stream keeps what parts of a layer decode to, at the places that they have in the whole: one sparse file for all small files
// of a layer, where one file each would cost a name, an inode and a hash. Like those it is derived, not synced, and counts in the
// boot in which it was made; of another boot it is removed, for it has no digest to be held against.
//
// It is safe for use by many goroutines.
type Stream struct {
	f       *os.File
	release func()    // of the key
	lock    *lockFile // of who makes it; nil of a whole one
	path    string    // of one that is made
}

// Stream opens the whole stream key, which is a use of it. The key tells not only the layer but all that the stream depends on.
// The error is fs.ErrNotExist if there is none.
func (s *Store) Stream(key digest.Digest) (*Stream, error) {
	release, err := s.Hold(key)
	if err != nil {
		return nil, err
	}
	f, err := openWhole(s.streamPath(key))
	if err != nil {
		release()
		return nil, fmt.Errorf("stream %s: %w", key, bare(err))
	}
	return &Stream{f: f, release: release}, nil
}

// NewStream makes a new stream. Nobody else sees it before Commit, and who closes it without leaves nothing.
// The error is fs.ErrExist if there is a whole one, or another makes it.
func (s *Store) NewStream(key digest.Digest) (_ *Stream, err error) {
	release, err := s.Hold(key)
	if err != nil {
		return nil, err
	}
	st := &Stream{release: release, path: s.streamPath(key)}
	defer func() {
		if err == nil {
			return
		}
		release()
		if st.lock != nil {
			st.lock.close()
		}
		err = fmt.Errorf("stream %s: %w", key, noSpace(bare(err)))
	}()
	if st.lock, err = s.openLock(digestName(key) + ".stream"); err != nil {
		return nil, err
	}
	switch free, err := st.lock.try(0, 1); {
	case err != nil:
		return nil, err
	case !free || isWhole(st.path):
		return nil, iofs.ErrExist
	}
	if err := os.Remove(st.path); err != nil && !errors.Is(err, iofs.ErrNotExist) { // who made it died
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(st.path), 0o700); err != nil {
		return nil, err
	}
	st.f, err = os.OpenFile(st.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o200)
	return st, err
}

// ReadAt reads as io.ReaderAt does, zeros where nothing was written.
func (st *Stream) ReadAt(p []byte, off int64) (int, error) { return st.f.ReadAt(p, off) }

// WriteAt writes to a new stream, as io.WriterAt does. The error is syscall.ENOSPC where the disk is full.
func (st *Stream) WriteAt(p []byte, off int64) (int, error) {
	n, err := st.f.WriteAt(p, off)
	return n, noSpace(err)
}

// Commit says that a new stream is whole, from which on others may open it. What was written was verified before.
func (st *Stream) Commit() error {
	err := st.f.Chmod(0o400)
	if err == nil {
		err = st.lock.close()
		st.lock = nil
	}
	return err
}

// Close closes the stream. A new one that was not committed is removed.
func (st *Stream) Close() error {
	var errs []error
	if st.lock != nil {
		errs = append(errs, os.Remove(st.path), st.lock.close())
	}
	st.release()
	return errors.Join(append(errs, st.f.Close())...)
}

func (s *Store) streamPath(key digest.Digest) string {
	return s.path("cache", "streams", s.boot.String(), key.Algorithm().String(), key.Encoded())
}

// sweepStreams removes the streams of earlier boots.
func (s *Store) sweepStreams() error {
	boots, err := readDir(s.path("cache", "streams"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range boots {
		if boot, ok := parseBootID(e.Name()); ok && boot != s.boot {
			errs = append(errs, os.RemoveAll(s.path("cache", "streams", e.Name())))
		}
	}
	return errors.Join(errs...)
}
