package image

import (
	"context"

	"distfs/layer"
)

// An Item is a name in a directory.
type Item struct {
	Name string
	Kind layer.Kind

	// Of what is no directory these are as the File has them. Of a directory they
	// are those of a layer that has it.
	Node  uint32
	Layer int
}

// A spot is a node of a layer.
type spot struct {
	layer int32
	node  uint32
}

// List returns what is in the directory dir, nil being the root, in the order of the
// names' bytes. Errors are as those of Lookup; hard links to nothing are listed, as files.
func (t *Tree) List(ctx context.Context, dir *File) ([]Item, error) {
	p, err := t.part(ctx, dir)
	if err != nil {
		return nil, err
	}
	spots, err := t.spots(ctx, p)
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(spots))
	for _, s := range spots {
		ix := t.ix(s)
		ino := ix.Inode(s.node)
		item := Item{Name: ix.Nodes[s.node].Name, Kind: ino.Kind, Node: ino.Node, Layer: int(s.layer)}
		switch ino.Kind {
		case layer.Whiteout:
			continue
		case layer.Hardlink:
			links, err := t.hardlinks(ctx, item.Layer)
			if err != nil {
				return nil, err
			}
			f := links[ix.Nodes[s.node].Inode]
			if f == nil {
				item.Kind = layer.File
				break
			}
			item.Kind, item.Node, item.Layer = f.inode.Kind, f.Node, f.Layer
		}
		items = append(items, item)
	}
	return items, nil
}

// spots returns what is in the directory whose uppermost part is p, as merge does.
func (t *Tree) spots(ctx context.Context, p *part) ([]spot, error) {
	var parts []*part
	for p != nil {
		parts = append(parts, p)
		var err error
		if p, err = t.next(ctx, p); err != nil {
			return nil, err
		}
	}
	return t.merge(parts), nil
}

// ix returns the index of a spot that a part has told of.
func (t *Tree) ix(s spot) *layer.Index { return t.layers[s.layer].root.Load().ix }

func (t *Tree) name(s spot) string { return t.ix(s).Nodes[s.node].Name }

// merge returns what the parts of a directory, uppermost first, have in it, in the
// order of names, and what hides something. Each name is touched
// about as often as the number of parts can be halved.
func (t *Tree) merge(parts []*part) []spot {
	if len(parts) == 1 {
		d := parts[0].ix.Nodes[parts[0].node]
		spots := make([]spot, d.Count)
		for i := range spots {
			spots[i] = spot{int32(parts[0].layer), d.First + uint32(i)}
		}
		return spots
	}
	upper, lower := t.merge(parts[:len(parts)/2]), t.merge(parts[len(parts)/2:])
	all := make([]spot, 0, len(upper)+len(lower))
	for len(upper) > 0 && len(lower) > 0 {
		u, l := upper[0], lower[0]
		un, ln := t.name(u), t.name(l)
		if un <= ln {
			upper = upper[1:]
		}
		if ln <= un {
			lower = lower[1:]
		}
		if ln < un {
			u = l
		}
		all = append(all, u)
	}
	return append(append(all, upper...), lower...)
}
