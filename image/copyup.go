package image

import (
	"context"
	"strings"

	"distfs/layer"
)

// copyUp returns the index of a layer, whose root is given, with all the names that
// the files of its hard links have in the tree of the layers up to it. They are nodes
// of the same inode as the hard link.
func (t *Tree) copyUp(ctx context.Context, root *part, links hardlinks) (*layer.Index, error) {
	if len(links) == 0 {
		return root.ix, nil
	}
	c := copier{
		settler: settler{tree: t, root: root, steps: stepsOf(root.ix)},
		nodes:   make(map[*layer.Inode]uint32), count: countSteps,
	}
	lowest := root.layer
	for n := range root.ix.Nodes {
		if f := links[root.ix.Nodes[n].Inode]; f != nil {
			c.nodes[f.inode] = uint32(n)
			lowest = min(lowest, f.Layer)
		}
	}
	for i := lowest; i < root.layer; i++ {
		switch err := c.layer(ctx, i); {
		case c.count < 0 || *c.steps < 0:
			return root.ix, nil
		case err != nil:
			return nil, err
		}
	}
	return c.rebuild(), nil
}

// A copier finds the names of the files that a layer has hard links to.
type copier struct {
	settler
	nodes map[*layer.Inode]uint32 // a name that the layer has of each
	count steps                   // that finding them may take
}

// layer finds those that layer i has.
func (c *copier) layer(ctx context.Context, i int) error {
	p, err := c.tree.root(ctx, i)
	if err != nil {
		return err
	}
	links, err := c.tree.hardlinks(ctx, i)
	if err != nil {
		return err
	}
	v := c.tree.view(c.root.layer, i, p.ix, &c.count)
	for n := range p.ix.Nodes {
		ino := p.ix.Inode(uint32(n))
		if f := links[p.ix.Nodes[n].Inode]; f != nil {
			ino = f.inode
		}
		node, ours := c.nodes[ino]
		if !ours {
			continue
		}
		seen, err := v.sees(ctx, uint32(n))
		if err == nil && seen {
			err = c.put(node, strings.Split(p.ix.Path(uint32(n)), "/"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
