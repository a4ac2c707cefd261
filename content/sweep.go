package content

import (
	"errors"
	iofs "io/fs"
	"os"
	"strings"
	"time"
)

// newAge is how old what is being made must be for its maker to be dead: it takes milliseconds.
const newAge = time.Hour

// sweep removes what processes that died have left in ingest/ and uploads/, so that nobody else needs to.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		return err
	}
	errs := []error{s.sweepUploads()}
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

// sweepIngest removes an ingest of a digest whose blob is in the store, unless somebody is just committing it.
func (s *Store) sweepIngest(name string) error {
	dgst := ingestDigest(name)
	if dgst.Validate() != nil {
		return nil
	}
	if there, err := s.hasBlob(dgst); err != nil || !there {
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
	st := Discarded
	if _, err := os.Lstat(s.path("ingest", name, "data")); err != nil {
		st = Committed // died behind the rename
	}
	return s.retire(name, st)
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
