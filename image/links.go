package image

import (
	"context"
	"errors"

	"distfs/layer"
)

// names say how many names of the tree mean an inode, of one layer's that may have
// several.
type names map[*layer.Inode]uint32

// Links returns how many names f has in the tree. Of a directory that is 1, which
// tells programs that it does not say how many directories are in it. Where so many
// layers have so many hard links that counting takes too long, it is how many f's
// own layer has.
func (t *Tree) Links(ctx context.Context, f *File) (uint32, error) {
	// The layers above f's were asked for when it was looked for.
	if f.IsDir() || f.inode.Links <= 1 && t.linked.Load() <= int64(f.Layer)+1 {
		return 1, nil
	}
	all, err := t.names(ctx, f.Layer)
	if n, counted := all[f.inode]; counted {
		return n, err
	}
	return f.inode.Links, err
}

// names counts those of layer i's inodes, whose root was asked for before.
func (t *Tree) names(ctx context.Context, i int) (names, error) {
	s := &t.layers[i]
	if n := s.names.Load(); n != nil {
		return *n, nil
	}
	count, steps := make(names), steps(countSteps)
	var err error
	for j := i + 1; j < len(t.layers) && int64(j) < t.linked.Load() && err == nil; j++ {
		err = t.countFar(ctx, i, j, count, &steps)
	}
	if err == nil {
		err = t.countNear(ctx, i, count, &steps)
	}
	if steps < 0 {
		count, err = names{}, nil
	}
	if err != nil {
		return nil, err
	}
	s.names.CompareAndSwap(nil, &count)
	return count, nil
}

// countSteps are what counting one layer's names may take, some seconds.
const countSteps = 64 << 20

// countNear counts the names that layer i has of its own inodes.
func (t *Tree) countNear(ctx context.Context, i int, count names, steps *steps) error {
	ix := t.layers[i].root.Load().ix
	v := t.view(len(t.layers)-1, i, ix, steps)
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		if _, linked := count[ino]; ino.Kind == layer.Dir || ino.Links <= 1 && !linked {
			continue
		}
		seen, err := v.sees(ctx, uint32(n))
		if err != nil {
			return err
		}
		if seen {
			count[ino]++
		}
	}
	return nil
}

// countFar counts the names that layer j has of inodes of the lower layer i.
func (t *Tree) countFar(ctx context.Context, i, j int, count names, steps *steps) error {
	root, err := t.root(ctx, j)
	if err != nil {
		return err
	}
	links, err := t.hardlinks(ctx, j)
	if err != nil {
		return err
	}
	v := t.view(len(t.layers)-1, j, root.ix, steps)
	for n := range root.ix.Nodes {
		f := links[root.ix.Nodes[n].Inode]
		if f == nil || f.Layer != i {
			continue
		}
		seen, err := v.sees(ctx, uint32(n))
		if err != nil {
			return err
		}
		if seen {
			count[f.inode]++
		} else {
			count[f.inode] += 0 // it may have other names
		}
	}
	return nil
}

// A view is of what of a layer is to be seen in the tree of the layers up to one.
type view struct {
	tree  *Tree
	top   int
	ix    *layer.Index
	layer int
	steps *steps           // that may still be taken
	dirs  map[uint32]*part // by node: what is to be seen in the directory's place, nil if that is none
}

// view returns one of layer i, whose index is ix, in the tree of the layers up to top.
func (t *Tree) view(top, i int, ix *layer.Index, steps *steps) *view {
	return &view{tree: t, top: top, ix: ix, layer: i, steps: steps, dirs: make(map[uint32]*part)}
}

// sees says whether the layer's node n is what its path leads to in the tree.
func (v *view) sees(ctx context.Context, n uint32) (bool, error) {
	dir, err := v.dir(ctx, v.ix.Nodes[n].Parent)
	if err != nil || dir == nil {
		return false, err
	}
	if err := errors.Join(ctx.Err(), v.steps.take(1+v.top-v.layer)); err != nil {
		return false, err
	}
	p, err := v.tree.find(ctx, dir, v.ix.Nodes[n].Name)
	return p != nil && p.layer == v.layer && p.node == n, err
}

// dir returns the directory in the place of the layer's directory n.
func (v *view) dir(ctx context.Context, n uint32) (*part, error) {
	if n == 0 {
		return v.tree.root(ctx, v.top)
	}
	if p, known := v.dirs[n]; known {
		return p, nil
	}
	in, err := v.dir(ctx, v.ix.Nodes[n].Parent)
	if err != nil || in == nil {
		return nil, err
	}
	p, err := v.tree.find(ctx, in, v.ix.Nodes[n].Name)
	if err != nil {
		return nil, err
	}
	if p != nil && p.kind() != layer.Dir {
		p = nil
	}
	v.dirs[n] = p
	return p, nil
}
