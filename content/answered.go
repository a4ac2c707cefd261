package content

import (
	"errors"
	iofs "io/fs"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Answered returns, sorted, the repositories that answered for dgst, "host/a/b" each. It looks into every repository on record.
func (s *Store) Answered(dgst digest.Digest) ([]string, error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, err
	}
	var repos []string
	root := s.path("repos")
	err := filepath.WalkDir(root, func(path string, e iofs.DirEntry, err error) error {
		if errors.Is(err, iofs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		switch name := e.Name(); {
		case !e.IsDir():
			return nil
		case strings.HasPrefix(name, "_"):
			return iofs.SkipDir
		}
		if _, err := readRecord(filepath.Join(path, "_objects", digestName(dgst))); err == nil {
			repo, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			repos = append(repos, filepath.ToSlash(repo))
		}
		return nil
	})
	return repos, err
}
