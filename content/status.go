package content

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// Status is how far an ingest is.
type Status struct {
	Ref      string // the label or, by key, the key
	Offset   int64  // so many bytes from the beginning are here without a gap
	Total    int64  // -1: not known
	Expected digest.Digest
	Origin   string // empty: by key
	Started  time.Time
	Updated  time.Time // when a chunk was last written or done
	Local    int64     // so many bytes are here
}

// Ingests returns the status of all ingests, sorted by digest and then by key's hash.
func (s *Store) Ingests() ([]Status, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		return nil, err
	}
	var all []Status
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		st, err := s.status(e.Name())
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// IngestStatus returns the status of the ingest of dgst from origin.
// The error is fs.ErrNotExist if there is none.
func (s *Store) IngestStatus(dgst digest.Digest, origin string) (Status, error) {
	if err := s.check(); err != nil {
		return Status{}, err
	}
	e := Expect{Digest: dgst, Origin: origin}
	if err := e.check(); err != nil {
		return Status{}, err
	}
	if !e.shared() {
		return Status{}, fmt.Errorf("ingest %s: %w: it has no origin", dgst, iofs.ErrNotExist)
	}
	return s.status(e.name())
}

// Abort discards the ingest that e's digest and origin, or its ref, mean, as Ingest.Discard does. One by key must have no writer.
// The error is fs.ErrNotExist if there is none.
func (s *Store) Abort(e Expect) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := e.checkName(); err != nil {
		return err
	}
	if _, err := os.Lstat(s.path("ingest", e.name())); err != nil {
		return fmt.Errorf("ingest %.200s: %w", e.label(), bare(err))
	}
	lock, err := s.openLock(e.name())
	if err != nil {
		return err
	}
	defer lock.close()
	if err := lock.wait(structureByte); err != nil {
		return err
	}
	if !e.shared() {
		if err := lock.becomeWriter(e.Ref); err != nil {
			return err
		}
	}
	return s.retire(e.name(), Discarded)
}

// status reads the files of the ingest name, without a lock. What is half there or damaged is fs.ErrNotExist.
func (s *Store) status(name string) (st Status, err error) {
	dir := s.path("ingest", name)
	st, err = s.readStatus(dir, name)
	if errors.Is(err, errDamaged) || errors.Is(err, syscall.ENOTDIR) {
		err = iofs.ErrNotExist
	}
	if err != nil {
		return Status{}, fmt.Errorf("ingest %.200s: %w", name, err)
	}
	return st, nil
}

func (s *Store) readStatus(dir, name string) (st Status, err error) {
	f, err := os.Open(filepath.Join(dir, "ranges"))
	if err != nil {
		return st, err
	}
	defer f.Close()
	h, err := readHeader(f)
	if err != nil {
		return st, err
	}
	x, err := readExpect(dir, name)
	if err != nil {
		return st, err
	}
	data, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		return st, err
	}
	ranges, err := f.Stat()
	if err != nil {
		return st, err
	}
	st = Status{
		Ref: x.expect().Ref, Total: h.total, Expected: x.Digest, Origin: x.Origin,
		Started: x.Started, Updated: data.ModTime(),
	}
	if ranges.ModTime().After(st.Updated) {
		st.Updated = ranges.ModTime()
	}
	chunks := data.Size() / ChunkSize
	if h.total >= 0 {
		chunks = chunksOf(min(h.total, data.Size()))
	}
	b := make([]byte, min(chunks, 64<<10)) // a piece at a time: 16 TiB have 16 MiB of map
	for at := int64(0); at < chunks; at += int64(len(b)) {
		piece := b[:min(int64(len(b)), chunks-at)]
		if n, err := f.ReadAt(piece, headerSize+at); errors.Is(err, io.EOF) && n < len(piece) {
			return st, errDamaged // or just being resized
		} else if n < len(piece) {
			return st, err
		}
		for i, v := range piece {
			if v == absent || v == written && h.boot != s.boot {
				continue
			}
			begin, size := (at+int64(i))*ChunkSize, int64(ChunkSize)
			if h.total >= 0 {
				size = min(size, h.total-begin)
			}
			if st.Offset == begin {
				st.Offset += size
			}
			st.Local += size
		}
	}
	return st, nil
}
