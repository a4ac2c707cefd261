package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"syscall"

	"distfs/layer"
)

// hardlinks are the files of lower layers that a layer has names of, by the nodes
// of these names. It does not have those of which there is no file.
type hardlinks map[uint32]*File

// names say how many names of the tree mean an inode, of one layer's that may have
// several.
type names map[*layer.Inode]uint32

// noteLinks notes that layer i has names of files of the layers below, if it has.
func (t *Tree) noteLinks(i int, ix *layer.Index) {
	if !slices.ContainsFunc(ix.Nodes, func(n layer.Node) bool { return ix.Inodes[n.Inode].Kind == layer.Hardlink }) {
		return
	}
	for old := t.linked.Load(); old <= int64(i); old = t.linked.Load() {
		if t.linked.CompareAndSwap(old, int64(i)+1) {
			return
		}
	}
}

// hardlinks returns those of layer i, whose root was asked for before.
func (t *Tree) hardlinks(ctx context.Context, i int) (hardlinks, error) {
	s := &t.layers[i]
	if l := s.links.Load(); l != nil {
		return *l, nil
	}
	links := make(hardlinks)
	ix := s.root.Load().ix
	steps := stepsOf(ix)
	for n := range ix.Nodes {
		if ix.Inode(uint32(n)).Kind != layer.Hardlink {
			continue
		}
		f, err := t.target(ctx, i-1, ix.Inode(uint32(n)).Link, steps)
		if err != nil {
			return nil, fmt.Errorf("layer %d: hard link %.200q: %w", i, ix.Path(uint32(n)), err)
		}
		if f != nil {
			links[uint32(n)] = f
		}
	}
	s.links.CompareAndSwap(nil, &links)
	return links, nil
}

// target returns the file of that path in the tree of the layers up to i, nil if
// there is none. A link in its own place is not followed.
func (t *Tree) target(ctx context.Context, i int, name string, steps *steps) (*File, error) {
	if i < 0 {
		return nil, nil
	}
	root, err := t.root(ctx, i)
	if err != nil {
		return nil, err
	}
	w := walk{tree: t, root: root, links: maxLinks, steps: steps}
	above, base := path.Split(name)
	err = w.to(ctx, above)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := w.find(ctx, base)
	if err != nil || p == nil || p.kind() == layer.Dir {
		return nil, err
	}
	return t.file(ctx, p)
}

// Links returns how many names f has in the tree. Of a directory that is 1, which
// tells programs that it does not say how many directories are in it.
func (t *Tree) Links(ctx context.Context, f *File) (uint32, error) {
	// The layers above f's were asked for when it was looked for.
	if f.IsDir() || f.inode.Links <= 1 && t.linked.Load() <= int64(f.Layer)+1 {
		return 1, nil
	}
	if t.alone {
		return f.inode.Links, nil
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
	count := make(names)
	for j := i + 1; j < len(t.layers) && int64(j) < t.linked.Load(); j++ {
		if err := t.countFar(ctx, i, j, count); err != nil {
			return nil, err
		}
	}
	ix := s.root.Load().ix
	v := view{tree: t, ix: ix, layer: i, dirs: make(map[uint32]*part)}
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, linked := count[ino]; ino.Kind == layer.Dir || ino.Links <= 1 && !linked {
			continue
		}
		seen, err := v.sees(ctx, uint32(n))
		if err != nil {
			return nil, err
		}
		if seen {
			count[ino]++
		}
	}
	s.names.CompareAndSwap(nil, &count)
	return count, nil
}

// countFar counts the names that layer j has of inodes of the lower layer i.
func (t *Tree) countFar(ctx context.Context, i, j int, count names) error {
	root, err := t.root(ctx, j)
	if err != nil {
		return err
	}
	links, err := t.hardlinks(ctx, j)
	if err != nil {
		return err
	}
	v := view{tree: t, ix: root.ix, layer: j, dirs: make(map[uint32]*part)}
	for n, f := range links {
		if f.Layer != i {
			continue
		}
		seen, err := v.sees(ctx, n)
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

// A view is of what of a layer is to be seen in the tree.
type view struct {
	tree  *Tree
	ix    *layer.Index
	layer int
	dirs  map[uint32]*part // by node: what is to be seen in the directory's place, nil if that is none
}

// sees says whether the layer's node n is what its path leads to in the tree.
func (v *view) sees(ctx context.Context, n uint32) (bool, error) {
	dir, err := v.dir(ctx, v.ix.Nodes[n].Parent)
	if err != nil || dir == nil {
		return false, err
	}
	p, err := v.tree.find(ctx, dir, v.ix.Nodes[n].Name)
	return p != nil && p.layer == v.layer && p.node == n, err
}

// dir returns the directory in the place of the layer's directory n.
func (v *view) dir(ctx context.Context, n uint32) (*part, error) {
	if n == 0 {
		return v.tree.root(ctx, len(v.tree.layers)-1)
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
