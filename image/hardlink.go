package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"distfs/layer"
)

// hardlinks are the files of lower layers that a layer has names of, by the inodes
// that it has for them. It does not have those of which there is no file.
type hardlinks map[uint32]*File

// noteLinks notes that layer i has names of files of the layers below, if it has.
func (t *Tree) noteLinks(i int, ix *layer.Index) {
	if !slices.ContainsFunc(ix.Nodes, func(n layer.Node) bool { return ix.Inodes.At(n.Inode).Kind == layer.Hardlink }) {
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
	steps, again := stepsOf(ix), stepsOf(ix)
	for n := range ix.Nodes {
		if _, known := links[ix.Nodes[n].Inode]; known || ix.Inode(uint32(n)).Kind != layer.Hardlink {
			continue
		}
		f, err := t.target(ctx, i-1, ix.Inode(uint32(n)).Link(), steps)
		if err == nil {
			err = t.certain(ctx, i, uint32(n), again)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: hard link %.200q: %w", i, ix.Path(uint32(n)), err)
		}
		if f != nil {
			links[ix.Nodes[n].Inode] = f
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

// certain is errOrder if the hard link n of layer i may be to a file of the layer's
// own, which a link of the layers below leads to, or which was moved to where it is.
// Of any other the index would have made it a name, had that come first.
func (t *Tree) certain(ctx context.Context, i int, n uint32, steps *steps) error {
	root := t.layers[i].root.Load()
	w := walk{tree: t, root: root, links: maxLinks, steps: steps, own: true}
	above, base := path.Split(root.ix.Inode(n).Link())
	err := w.to(ctx, above)
	switch {
	case errors.Is(err, errOwn), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return nil
	case err != nil:
		return err
	}
	w.own = false
	p, err := w.find(ctx, base)
	if err != nil || p == nil || p.layer != i || p.kind() == layer.Dir || p.node == n {
		return err
	}
	unsettled, err := t.index(ctx, i)
	if err == nil && (w.followed || !has(unsettled, root.ix.Inode(n).Link())) {
		err = errOrder
	}
	return err
}

// has says whether an index has a node of that path.
func has(ix *layer.Index, name string) bool {
	n := uint32(0)
	for part := range strings.SplitSeq(name, "/") {
		child, ok := ix.Lookup(n, part)
		if !ok {
			return false
		}
		n = child
	}
	return true
}
