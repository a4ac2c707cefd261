package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A table knows the nodes that the kernel knows, under the numbers that it
// gave them. A number is never given twice, and a node lives as long as the
// kernel counts a look-up of it.
type table struct {
	mu      sync.Mutex
	byID    map[uint64]*entered   // guarded by mu
	byIdent map[identity]*entered // guarded by mu; without the root
	last    uint64                // guarded by mu
}

// entered is a node in the table.
type entered struct {
	id      uint64
	node    node
	lookups uint64 // guarded by table.mu
}

func newTable(root node) *table {
	return &table{
		byID:    map[uint64]*entered{fuse.FUSE_ROOT_ID: {id: fuse.FUSE_ROOT_ID, node: root}},
		byIdent: make(map[identity]*entered),
		last:    fuse.FUSE_ROOT_ID,
	}
}

// node returns the node of a number that the kernel has, nil for another.
func (t *table) node(id uint64) node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[id]; e != nil {
		return e.node
	}
	return nil
}

// find returns the node with that identity, nil if there is none.
func (t *table) find(ident identity) node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byIdent[ident]; e != nil {
		return e.node
	}
	return nil
}

// id returns the number of the node, 0 if the kernel has forgotten it.
func (t *table) id(n node) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[fuse.FUSE_ROOT_ID].node == n {
		return fuse.FUSE_ROOT_ID
	}
	if e := t.byIdent[n.identity()]; e != nil && e.node == n {
		return e.id
	}
	return 0
}

// enter counts a look-up. Where a node of this identity is known already, that
// one is returned.
func (t *table) enter(n node) (uint64, node) {
	ident := n.identity()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byIdent[ident]
	if e == nil {
		t.last++
		e = &entered{id: t.last, node: n}
		t.byID[e.id], t.byIdent[ident] = e, e
	}
	e.lookups++
	return e.id, e.node
}

// forget takes back n look-ups.
func (t *table) forget(id, n uint64) {
	if dropped, ok := t.drop(id, n).(forgettable); ok {
		dropped.forgotten()
	}
}

func (t *table) drop(id, n uint64) node {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil || id == fuse.FUSE_ROOT_ID {
		return nil
	}
	if e.lookups > n {
		e.lookups -= n
		return nil
	}
	delete(t.byID, id)
	delete(t.byIdent, e.node.identity())
	return e.node
}

// all returns every node that the kernel knows.
func (t *table) all() []node {
	t.mu.Lock()
	defer t.mu.Unlock()
	nodes := make([]node, 0, len(t.byID))
	for _, e := range t.byID {
		nodes = append(nodes, e.node)
	}
	return nodes
}
