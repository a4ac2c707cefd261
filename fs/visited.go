package fs

import (
	"slices"
	"sync"
)

// maxVisited bounds how many names are remembered; later ones are not listed.
const maxVisited = 4096

// visited are the names that were entered and that listings show for that. The
// zero value is ready.
type visited struct {
	mu      sync.Mutex
	entered map[string][]string // by directory; guarded by mu
	n       int                 // guarded by mu
}

// add says whether the name is a new one that listings show.
func (v *visited) add(dir, name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	i, found := slices.BinarySearch(v.entered[dir], name)
	if found || v.n == maxVisited {
		return false
	}
	if v.entered == nil {
		v.entered = make(map[string][]string)
	}
	v.entered[dir] = slices.Insert(v.entered[dir], i, name)
	v.n++
	return true
}

func (v *visited) names(dir string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.entered[dir])
}
