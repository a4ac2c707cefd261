package layer

import (
	"hash/maphash"
	"math"
	"strings"
)

// built is a node under way. What lies below a dead one is dead.
type built struct {
	name          string
	parent, inode uint32
}

const noInode = math.MaxUint32

func (n *built) die() { n.inode = noInode }

func (n *built) dead() bool { return n.inode == noInode }

// builtNodes are a list of nodes, in pages, so that it grows without a copy.
type builtNodes struct {
	pages [][]built
	count uint32
}

const pageBuilt = 1024

func (s *builtNodes) at(n uint32) *built { return &s.pages[n/pageBuilt][n%pageBuilt] }

func (s *builtNodes) add(n built) uint32 {
	if s.count%pageBuilt == 0 {
		s.pages = append(s.pages, make([]built, 0, pageBuilt))
	}
	page := &s.pages[s.count/pageBuilt]
	*page = append(*page, n)
	s.count++
	return s.count - 1
}

// texts keep strings, many in one piece of memory, each as large as those before
// together, up to maxPiece. The zero value is ready.
type texts struct {
	piece strings.Builder
	taken int // bytes, by all pieces
}

const minPiece, maxPiece = 512, 32 << 10

// keep returns a string that is equal to s.
func (t *texts) keep(s string) string {
	if t.piece.Len()+len(s) > t.piece.Cap() {
		t.piece = strings.Builder{}
		t.piece.Grow(max(min(t.taken, maxPiece), minPiece, len(s)))
		t.taken += t.piece.Cap()
	}
	begin := t.piece.Len()
	t.piece.WriteString(s)
	return t.piece.String()[begin:]
}

// A nameTable finds nodes by their directory and name. It holds their numbers alone.
type nameTable struct {
	seed  maphash.Seed
	slots []uint32 // a power of two; each name is in the first of its own and those behind that was free; 0 is free
	used  int
}

func newNameTable() nameTable {
	return nameTable{seed: maphash.MakeSeed(), slots: make([]uint32, 64)}
}

// find returns the node of that name in the directory parent, 0 if there is none.
func (t *nameTable) find(nodes *builtNodes, parent uint32, name string) uint32 {
	return *t.slot(nodes, parent, name)
}

// set has the node n found from now on, and none of the same name before it.
func (t *nameTable) set(nodes *builtNodes, n uint32) {
	if 4*t.used >= 3*len(t.slots) {
		old := t.slots
		t.slots, t.used = make([]uint32, 2*len(old)), 0
		for _, n := range old {
			if n > 0 {
				t.put(nodes, n)
			}
		}
	}
	t.put(nodes, n)
}

func (t *nameTable) put(nodes *builtNodes, n uint32) {
	node := nodes.at(n)
	s := t.slot(nodes, node.parent, node.name)
	if *s == 0 {
		t.used++
	}
	*s = n
}

// slot returns the slot that has the name, or is to have it.
func (t *nameTable) slot(nodes *builtNodes, parent uint32, name string) *uint32 {
	mask := uint64(len(t.slots) - 1)
	for i := maphash.Comparable(t.seed, parent) ^ maphash.String(t.seed, name); ; i++ {
		s := &t.slots[i&mask]
		if *s == 0 {
			return s
		}
		if n := nodes.at(*s); n.parent == parent && n.name == name {
			return s
		}
	}
}
