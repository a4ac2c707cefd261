package image

import (
	"cmp"
	"context"
	iofs "io/fs"
	"slices"
	"sync/atomic"
	"syscall"

	"distfs/layer"
)

// A Lower is a layer of a Tree as overlayfs wants a lower directory: the overlay of
// all the layers is the Tree. It has what the layer has, where it has it in the Tree;
// and as overlayfs knows nothing of what a tar leaves out,
//
//   - a directory of which the layer has no entry has the attributes that the layers
//     below give it;
//   - what is hidden is a file of Kind Whiteout, but only where the layers below have
//     something under its name: a directory that one layer alone has is shown by
//     overlayfs with the whiteouts in it;
//   - a root that hides all below it has a whiteout for each name there, and its
//     directories are opaque: overlayfs does not ask whether a root is;
//   - a file of the layers below that the layer has a name of has all its names in it,
//     as if it had been copied up. Else they were several files.
//
// A device 0/0 is a whiteout, whatever the image means by it. Where a file has so many
// names that finding them takes too long, it has only those of the layer.
//
// It waits for the layers below where it has any of these. It is safe for use by many
// goroutines.
type Lower struct {
	tree  *Tree
	layer int
	made  atomic.Pointer[lower]
}

// A lower is what of a Lower is worked out once.
type lower struct {
	root  *part
	links hardlinks
	names names
}

// Lower returns the layer i.
func (t *Tree) Lower(i int) *Lower { return &Lower{tree: t, layer: i} }

func (l *Lower) lower(ctx context.Context) (*lower, error) {
	if made := l.made.Load(); made != nil {
		return made, nil
	}
	root, err := l.tree.root(ctx, l.layer)
	if err != nil {
		return nil, err
	}
	links, err := l.tree.hardlinks(ctx, l.layer)
	if err != nil {
		return nil, err
	}
	ix, err := l.tree.copyUp(ctx, root, links)
	if err != nil {
		return nil, err
	}
	made := &lower{&part{ix: ix, layer: l.layer}, links, make(names)}
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		f := links[ix.Nodes[n].Inode]
		switch {
		case f != nil:
			made.names[f.inode]++
		case ino.Kind != layer.Dir && ino.Links > 1:
			made.names[ino]++
		}
	}
	l.made.CompareAndSwap(nil, made)
	return l.made.Load(), nil
}

// Root returns the root.
func (l *Lower) Root(ctx context.Context) (*File, error) {
	made, err := l.lower(ctx)
	if err != nil {
		return nil, err
	}
	return l.file(ctx, made, made.root)
}

// Lookup returns what has the name in the directory dir, as Tree's does.
func (l *Lower) Lookup(ctx context.Context, dir *File, name string) (*File, error) {
	made, in, err := l.part(ctx, dir)
	if err != nil {
		return nil, err
	}
	if n, has := in.ix.Lookup(in.node, name); has {
		if f, err := l.file(ctx, made, in.child(n)); f != nil || err != nil {
			return f, err
		}
	} else if !hidesRoot(in) {
		return nil, iofs.ErrNotExist
	}
	below, err := l.below(ctx, in)
	if err != nil || below == nil {
		return nil, cmp.Or(err, iofs.ErrNotExist)
	}
	hidden, err := l.tree.find(ctx, below, name)
	if err != nil || hidden == nil {
		return nil, cmp.Or(err, iofs.ErrNotExist)
	}
	return &File{Layer: l.layer, inode: &layer.Inode{Kind: layer.Whiteout, Links: 1}}, nil
}

// List returns what is in the directory dir, as Tree's does. All whiteouts are one
// file.
func (l *Lower) List(ctx context.Context, dir *File) ([]Item, error) {
	made, in, err := l.part(ctx, dir)
	if err != nil {
		return nil, err
	}
	d := in.ix.Nodes[in.node]
	items := make([]Item, 0, d.Count)
	hides := hidesRoot(in)
	for n := d.First; n < d.First+d.Count; n++ {
		item := Item{Name: in.ix.Nodes[n].Name, Layer: l.layer}
		ino, f := in.ix.Inode(n), made.links[in.ix.Nodes[n].Inode]
		switch {
		case f != nil:
			item.Kind, item.Node, item.Layer = f.inode.Kind, f.Node, f.Layer
		case onlyHides(ino):
			hides = true
			continue
		default:
			item.Kind, item.Node = ino.Kind, ino.Node
		}
		items = append(items, item)
	}
	if !hides {
		return items, nil
	}
	return l.appendWhiteouts(ctx, items, made, in)
}

// appendWhiteouts appends what is hidden in the directory in to what is not.
func (l *Lower) appendWhiteouts(ctx context.Context, items []Item, made *lower, in *part) ([]Item, error) {
	below, err := l.below(ctx, in)
	if err != nil || below == nil {
		return items, err
	}
	spots, err := l.tree.spots(ctx, below)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		name := l.tree.name(s)
		n, has := in.ix.Lookup(in.node, name)
		switch {
		case l.tree.ix(s).Inode(s.node).Kind == layer.Whiteout:
		case has && (made.links[in.ix.Nodes[n].Inode] != nil || !onlyHides(in.ix.Inode(n))):
		case has || hidesRoot(in):
			items = append(items, Item{Name: name, Kind: layer.Whiteout, Layer: l.layer})
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Name, b.Name) })
	return items, nil
}

// Links returns how many names f has in the Lower, 1 of a directory.
func (l *Lower) Links(ctx context.Context, f *File) (uint32, error) {
	made, err := l.lower(ctx)
	if err != nil {
		return 0, err
	}
	return max(made.names[f.inode], 1), nil
}

// part returns the layer's part of the directory dir, nil being the root.
func (l *Lower) part(ctx context.Context, dir *File) (*lower, *part, error) {
	made, err := l.lower(ctx)
	switch {
	case err != nil:
		return nil, nil, err
	case dir == nil:
		return made, made.root, nil
	case !dir.IsDir():
		return nil, nil, syscall.ENOTDIR
	}
	return made, dir.dir, nil
}

// file returns the file that p is, nil for what only hides something.
func (l *Lower) file(ctx context.Context, made *lower, p *part) (*File, error) {
	ino := p.inode()
	switch f := made.links[p.ix.Nodes[p.node].Inode]; {
	case ino.Kind == layer.Dir:
		dir, err := l.tree.directory(ctx, p)
		if err == nil {
			dir.opaque = ino.Opaque || p.in != nil && hidesRoot(p.in)
		}
		return dir, err
	case f != nil:
		return f, nil
	case onlyHides(ino):
		return nil, nil
	}
	return &File{Layer: l.layer, Node: ino.Node, inode: ino}, nil
}

// below returns what the whiteouts in the directory p hide names of.
func (l *Lower) below(ctx context.Context, p *part) (*part, error) {
	if p.in == nil {
		return l.tree.lower(ctx, p)
	}
	return l.tree.next(ctx, p)
}

// hidesRoot says whether p is a root that hides all below it.
func hidesRoot(p *part) bool { return p.in == nil && p.inode().Opaque }

// onlyHides says whether there is nothing of the name: of a hard link, if it is one
// to nothing.
func onlyHides(ino *layer.Inode) bool {
	major, minor := ino.Device()
	return ino.Kind == layer.Whiteout || ino.Kind == layer.Hardlink || ino.Kind == layer.CharDevice && major|minor == 0
}
