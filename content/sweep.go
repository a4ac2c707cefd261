package content

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// newAge is how old what is being made must be for its maker to be dead: it takes milliseconds.
const newAge = time.Hour

// sweep removes what processes that died have left in ingest/, so that nobody else needs to.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, gonePrefix):
			errs = append(errs, os.RemoveAll(s.path("ingest", name)))
		case strings.HasPrefix(name, newPrefix):
			if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > newAge {
				errs = append(errs, os.RemoveAll(s.path("ingest", name)))
			}
		default:
			errs = append(errs, s.sweepIngest(name))
		}
	}
	return errors.Join(errs...)
}

// sweepIngest removes an ingest whose blob is in the store, unless somebody is just committing it.
func (s *Store) sweepIngest(name string) error {
	label, _, _ := strings.Cut(name, ".")
	alg, hex, _ := strings.Cut(label, "-")
	dgst := digest.Digest(alg + ":" + hex)
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
