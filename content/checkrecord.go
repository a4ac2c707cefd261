package content

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// CheckRecords looks at every record of what repositories answered, and calls bad for one that is damaged, or says of a blob
// that the store has that its size is another one, with its path below the store and what is wrong. With drop such a record is
// removed: what it said is asked again. An error of bad, or ctx, ends it.
func (s *Store) CheckRecords(ctx context.Context, drop bool, bad func(path string, why error) error) error {
	if err := s.check(); err != nil {
		return err
	}
	return filepath.WalkDir(s.path("repos"), func(path string, e iofs.DirEntry, err error) error {
		if errors.Is(err, iofs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() {
			return err
		}
		why := s.checkRecord(path)
		if why == nil || errors.Is(why, iofs.ErrNotExist) {
			return nil
		}
		if drop {
			if err := os.Remove(path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return err
			}
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		return bad(rel, why)
	})
}

// checkRecord says what is wrong with the record in the file path.
func (s *Store) checkRecord(path string) error {
	kind, name := filepath.Base(filepath.Dir(path)), filepath.Base(path)
	if kind != "_objects" && kind != "_tags" {
		return nil // not ours
	}
	if _, err := os.Lstat(path); err != nil {
		return bare(err)
	}
	r, err := readRecord(path)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return errDamaged
	case err != nil:
		return err
	case kind == "_tags" && r.Resolved == nil:
		return errDamaged
	case kind == "_objects" && digestName(r.Digest) != name:
		return fmt.Errorf("%w: it is of %s", errDamaged, r.Digest)
	case kind == "_tags" && checkTag(name) != nil:
		return fmt.Errorf("%w: %q is no tag", errDamaged, name)
	}
	if info, err := s.Stat(r.Digest); err == nil && info.Size != r.Size {
		return fmt.Errorf("it says %d bytes, the blob has %d", r.Size, info.Size)
	}
	return nil
}
