package fs

import (
	"path"
	"sync"

	"distfs/locator"
)

// fetched are the images that the store has as wholes, by the directory in
// which they are shown. The zero value is ready.
type fetched struct {
	mu      sync.Mutex
	byDir   map[string][]string // names; nil until they are read; guarded by mu
	version uint64              // of the watch, before they were; guarded by mu
}

// fetchedIn are the names of such images in a directory. They are read again
// when they may have changed.
func (s *server) fetchedIn(dir string) []string {
	f := &s.fetched
	f.mu.Lock()
	defer f.mu.Unlock()
	version, told := s.lists.lastAll()
	if f.byDir != nil && told && f.version == version {
		return f.byDir[dir]
	}
	refs, err := s.src.Images()
	if err != nil {
		s.log.Warn("list", "path", dir, "err", err)
	}
	f.byDir, f.version = make(map[string][]string), version
	for _, ref := range refs {
		name := locator.Name{Kind: locator.Image, Repo: path.Base(ref.Path), Digest: ref.Digest}
		in := path.Dir(ref.Locator.String())
		f.byDir[in] = append(f.byDir[in], name.Plain())
	}
	return f.byDir[dir]
}
