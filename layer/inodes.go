package layer

import (
	"iter"
	"slices"
)

// Inodes are a list of them, in pages: they are many, and large, and one more moves
// none but those of the first page, which grows. All pages but the last have
// pageInodes.
type Inodes [][]Inode

const pageInodes = 512

// Len returns how many there are.
func (s Inodes) Len() int {
	if len(s) == 0 {
		return 0
	}
	return (len(s)-1)*pageInodes + len(s[len(s)-1])
}

// At returns the i-th, which is there. It is good until the next Add.
func (s Inodes) At(i uint32) *Inode { return &s[i/pageInodes][i%pageInodes] }

// All returns all, by their numbers.
func (s Inodes) All() iter.Seq2[uint32, *Inode] {
	return func(yield func(uint32, *Inode) bool) {
		for i := range uint32(s.Len()) {
			if !yield(i, s.At(i)) {
				return
			}
		}
	}
}

// Add puts a further one at the end, and returns its number.
func (s *Inodes) Add(ino Inode) uint32 {
	n := s.Len()
	if n%pageInodes == 0 {
		size := 0 // few layers fill the first
		if n > 0 {
			size = pageInodes
		}
		*s = append(*s, make([]Inode, 0, size))
	}
	page := &(*s)[n/pageInodes]
	*page = append(*page, ino)
	return uint32(n)
}

// Clone returns another list of the same, whose Extras are the same ones.
func (s Inodes) Clone() Inodes {
	all := slices.Clone(s)
	for i := range all {
		all[i] = slices.Clone(all[i])
	}
	return all
}

// cut leaves the first n.
func (s *Inodes) cut(n uint32) {
	pages := (n + pageInodes - 1) / pageInodes
	clear((*s)[pages:])
	*s = (*s)[:pages]
	if last := n % pageInodes; last > 0 {
		page := &(*s)[pages-1]
		clear((*page)[last:])
		*page = (*page)[:last]
	}
}
