package content

import (
	"errors"
	iofs "io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// newAge is how old what is being made must be for its maker to be dead: it takes milliseconds.
const newAge = time.Hour

// sweep removes what processes that died have left in ingest/ and uploads/, and what is of no more use in cache/, so that nobody
// else needs to.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		return err
	}
	errs := []error{s.sweepUploads(), s.sweepFiles(), s.sweepStreams()}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, gonePrefix):
			errs = append(errs, os.RemoveAll(s.path("ingest", name)))
		case strings.HasPrefix(name, newPrefix):
			if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > newAge {
				errs = append(errs, os.RemoveAll(s.path("ingest", name)))
			}
		case strings.HasPrefix(name, keyPrefix):
			errs = append(errs, s.sweepKey(name))
		default:
			errs = append(errs, s.sweepIngest(name))
		}
	}
	return errors.Join(errs...)
}

// sweepIngest removes an ingest of a digest whose blob is in the store, unless somebody is just committing it; and one that is
// derived also if it is of an earlier boot, of which nothing counts.
func (s *Store) sweepIngest(name string) error {
	dgst := ingestDigest(name)
	if dgst.Validate() != nil {
		return nil
	}
	over, err := s.isOver(name, dgst)
	if err != nil || !over {
		return err
	}
	lock, err := s.openLock(name)
	if err != nil {
		return err
	}
	defer lock.close()
	if ok, err := lock.try(structureByte, 1); err != nil || !ok {
		return err
	}
	if over, err = s.isOver(name, dgst); err != nil || !over { // begun anew meanwhile
		return err
	}
	st := Discarded
	if _, err := os.Lstat(s.path("ingest", name, "data")); err != nil {
		st = Committed // died behind the rename
	}
	return s.retire(name, st)
}

// isOver says whether what the ingest name, of dgst, is to become is there, or whether it is derived and was last opened in an
// earlier boot.
func (s *Store) isOver(name string, dgst digest.Digest) (bool, error) {
	there, err := isFile(s.goal(Expect{Derived: isDerived(name)}, dgst))
	if err != nil || there || !isDerived(name) {
		return there, err
	}
	return s.isStale(name), nil
}

func (s *Store) isStale(name string) bool {
	f, err := os.Open(s.path("ingest", name, "ranges"))
	if err != nil {
		return false
	}
	defer f.Close()
	h, err := readHeader(f)
	return err == nil && h.boot != s.boot
}

// sweepKey removes an ingest by key whose writer died behind the rename of its data, or where it had none yet.
func (s *Store) sweepKey(name string) error {
	gone := func() bool {
		_, err := os.Lstat(s.path("ingest", name, "data"))
		return errors.Is(err, iofs.ErrNotExist)
	}
	if !gone() {
		return nil
	}
	lock, err := s.openLock(name)
	if err != nil {
		return err
	}
	defer lock.close()
	if ok, err := lock.try(ownByte, 2); err != nil || !ok || !gone() {
		return err
	}
	return s.retire(name, Committed)
}
