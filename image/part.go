package image

import (
	"context"
	"sync/atomic"

	"distfs/layer"
)

// A part is what one layer has under a name of the tree. What the layers below have
// there hangs from it, and is looked for when it is wanted.
type part struct {
	ix    *layer.Index // settled: see settle
	layer int
	node  uint32
	in    *part // the part, of the same layer, of the directory that it is in; nil for a root
	below atomic.Pointer[part]
}

func (p *part) inode() *layer.Inode { return p.ix.Inode(p.node) }

func (p *part) kind() layer.Kind { return p.inode().Kind }

func (p *part) spot() spot { return spot{int32(p.layer), p.node} }

// child returns the part of a name, by the number of its node, in p.
func (p *part) child(node uint32) *part {
	return &part{ix: p.ix, layer: p.layer, node: node, in: p}
}

// root returns the root of the tree that the layers up to i make.
func (t *Tree) root(ctx context.Context, i int) (*part, error) {
	s := &t.layers[i]
	if p := s.root.Load(); p != nil {
		return p, nil
	}
	ix, err := t.index(ctx, i)
	if err == nil {
		ix, err = t.settle(ctx, i, ix)
	}
	if err != nil {
		return nil, err
	}
	t.noteLinks(i, ix)
	s.root.CompareAndSwap(nil, &part{ix: ix, layer: i})
	return s.root.Load(), nil
}

// lower returns what the next layer below that has anything under p's name has
// there; nil is nothing, or nothing that is to be seen in the directory.
func (t *Tree) lower(ctx context.Context, p *part) (*part, error) {
	if q := p.below.Load(); q == p { // which stands for nothing
		return nil, nil
	} else if q != nil {
		return q, nil
	}
	var q *part
	var err error
	switch {
	case p.in != nil:
		var dir *part
		if dir, err = t.next(ctx, p.in); err == nil {
			q, err = t.first(ctx, dir, p.ix.Nodes[p.node].Name)
		}
	case p.layer > 0:
		q, err = t.root(ctx, p.layer-1)
	}
	if err != nil {
		return nil, err
	}
	found := q
	if q == nil {
		q = p
	}
	if !p.below.CompareAndSwap(nil, q) && found != nil {
		found = p.below.Load()
	}
	return found, nil
}

// next returns the next part, downwards, of the directory p is a part of.
func (t *Tree) next(ctx context.Context, p *part) (*part, error) {
	if p.inode().Opaque {
		return nil, nil
	}
	q, err := t.lower(ctx, p)
	if err != nil || q == nil || q.kind() != layer.Dir {
		return nil, err
	}
	return q, nil
}

// first returns the uppermost part of what has the name in the directory dir, nil
// if no layer has anything there.
func (t *Tree) first(ctx context.Context, dir *part, name string) (*part, error) {
	for dir != nil {
		if n, ok := dir.ix.Lookup(dir.node, name); ok {
			return dir.child(n), nil
		}
		var err error
		if dir, err = t.next(ctx, dir); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// find returns what has the name in the directory dir, by its uppermost part; nil
// if nothing has.
func (t *Tree) find(ctx context.Context, dir *part, name string) (*part, error) {
	p, err := t.first(ctx, dir, name)
	if err != nil || p == nil || p.kind() == layer.Whiteout {
		return nil, err
	}
	return p, nil
}
