package fs

import (
	"cmp"
	"slices"
	"sync"

	"distfs/layer"
)

// sheaves are the files of a layer in the order in which their content lies there,
// bound into lots that are taken one by one. A lot is about what is decompressed at a
// time.
type sheaves struct {
	lots   [][]*layer.Inode
	strict bool // nothing is taken out of its order: the layer is decompressed from its start

	mu     sync.Mutex
	taken  []bool // guarded by mu
	next   int    // the first that may not be taken; guarded by mu
	urgent []int  // to be taken before that, the latest first; guarded by mu
}

// reapers is how many take from them at a time: one decompresses while the other writes.
func (s *sheaves) reapers() int {
	if s.strict {
		return 1
	}
	return 2
}

// sheafSize is how many bytes of the stream a lot spans.
const sheafSize = 2 << 20

// bind binds the files of an index that have content.
func bind(ix *layer.Index) *sheaves {
	var files []*layer.Inode
	for _, ino := range ix.Inodes.All() {
		if ino.Kind == layer.File && ino.Size > 0 && ino.Digest != [32]byte{} {
			files = append(files, ino)
		}
	}
	slices.SortFunc(files, func(a, b *layer.Inode) int { return cmp.Compare(a.Offset, b.Offset) })
	s := &sheaves{strict: ix.Streamed()}
	for len(files) > 0 {
		n := 1
		for n < len(files) && files[n].Offset/sheafSize == files[0].Offset/sheafSize {
			n++
		}
		s.lots = append(s.lots, files[:n])
		files = files[n:]
	}
	s.taken = make([]bool, len(s.lots))
	return s
}

// take returns the next lot, nil after the last one.
func (s *sheaves) take() []*layer.Inode {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.urgent) > 0 {
		i := s.urgent[len(s.urgent)-1]
		s.urgent = s.urgent[:len(s.urgent)-1]
		if !s.taken[i] {
			s.taken[i] = true
			return s.lots[i]
		}
	}
	for s.next < len(s.lots) {
		i := s.next
		s.next++
		if !s.taken[i] {
			s.taken[i] = true
			return s.lots[i]
		}
	}
	return nil
}

// urge has the lot with ino taken next, if it is not taken yet.
func (s *sheaves) urge(ino *layer.Inode) {
	i, _ := slices.BinarySearchFunc(s.lots, ino.Offset, func(lot []*layer.Inode, off int64) int {
		return cmp.Compare(lot[len(lot)-1].Offset, off)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if i < len(s.lots) && !s.taken[i] && !s.strict {
		s.urgent = append(s.urgent, i)
	}
}

// none says whether all were taken.
func (s *sheaves) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next == len(s.lots)
}
