package fs

import (
	"cmp"
	"slices"
	"sync"

	"distfs/layer"
)

// sheaves are what there is to keep of a layer, in the order in which it lies there, bound
// into lots that are taken one by one. A lot is about what is decompressed at a time.
type sheaves struct {
	lots   []*sheaf
	strict bool // nothing is taken out of its order: the layer is decompressed from its start

	mu     sync.Mutex
	taken  []bool // guarded by mu
	next   int    // the first that may not be taken; guarded by mu
	urgent []int  // to be taken before that, the latest first; guarded by mu
}

// A sheaf has spans, from first up to end, and files that are kept by themselves.
type sheaf struct {
	last       int64 // where in the stream what it has begins at the latest
	first, end int
	files      []*layer.Inode
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

// bind binds what an index has: the files, where the layer is decompressed from its start,
// which is strict, else its spans and the large files.
func bind(ix *layer.Index, strict bool) *sheaves {
	s := &sheaves{strict: strict}
	if strict {
		s.bindFiles(ix)
	} else {
		s.bindSpans(ix)
	}
	s.taken = make([]bool, len(s.lots))
	return s
}

func (s *sheaves) bindFiles(ix *layer.Index) {
	var files []*layer.Inode
	for _, ino := range ix.Inodes.All() {
		if ino.Kind == layer.File && ino.Size > 0 && ino.Digest != [32]byte{} {
			files = append(files, ino)
		}
	}
	slices.SortFunc(files, func(a, b *layer.Inode) int { return cmp.Compare(a.Offset, b.Offset) })
	for len(files) > 0 {
		n := 1
		for n < len(files) && files[n].Offset/sheafSize == files[0].Offset/sheafSize {
			n++
		}
		s.lots = append(s.lots, &sheaf{last: files[n-1].Offset, files: files[:n]})
		files = files[n:]
	}
}

func (s *sheaves) bindSpans(ix *layer.Index) {
	large := largeInodes(ix)
	for i := 0; i < len(ix.Spans); {
		lot := &sheaf{first: i, end: i + 1}
		begin := ix.Spans[i].Out
		for lot.end < len(ix.Spans) && ix.Spans[lot.end].Out/sheafSize == begin/sheafSize {
			lot.end++
		}
		i = lot.end
		lot.last = ix.Spans[i-1].Out + ix.Spans[i-1].Size - 1
		for len(large) > 0 && large[0].Offset <= lot.last {
			lot.files, large = append(lot.files, large[0]), large[1:]
		}
		s.lots = append(s.lots, lot)
	}
}

// take returns the next lot, nil after the last one.
func (s *sheaves) take() *sheaf {
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
	i, _ := slices.BinarySearchFunc(s.lots, ino.Offset, func(lot *sheaf, off int64) int { return cmp.Compare(lot.last, off) })
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
