package image

import (
	"context"
	"fmt"
	iofs "io/fs"
	"sync/atomic"
	"syscall"

	"distfs/layer"
)

// MaxLayers is how many layers an image may have whose files are shown. It is what
// Linux's overlayfs takes of lower directories (OVL_MAX_STACK); docker takes 127 layers.
const MaxLayers = 500

// A Tree is the file system that an image's layers make, one over the other, as
// unpacking them one after the other makes it. Nothing is merged beforehand: a
// question is put to the layers from the uppermost down, as far as it takes to
// answer it, and a layer's index is asked for only then.
//
//   - A file, a whiteout and an opaque directory answer for the layers below.
//   - A directory is answered for by the uppermost layer that has an entry of it;
//     what layers below have in it matters once it is listed, or a name is looked
//     up that the ones above have not.
//   - A layer that has names without entries of the directories above them waits
//     for those below, as far as they tell what these directories are: where they
//     are links, what the layer has in them is where the links lead. The error is
//     syscall.ELOOP, syscall.ENAMETOOLONG or syscall.EFBIG if they lead nowhere.
//   - So does one with hard links to files of the layers below, for these.
//
// An Index does not tell in which order a layer has its names. Where that matters,
// because names lead through links of the layers below to others of the layer's own,
// or to what it has in a link's place, the error is syscall.EINVAL: of two files one
// would be hidden by a guess.
//
// A Tree is safe for use by many goroutines. It keeps the indexes that it got.
type Tree struct {
	index  func(ctx context.Context, i int) (*layer.Index, error)
	layers []slot // lowest first

	// linked is above all layers that have names of files of the layers below, as
	// far as layers were asked for.
	linked atomic.Int64
}

// A slot has what is known of a layer. Each is worked out when it is first wanted,
// perhaps by two at once, who find the same: the first one's stays.
type slot struct {
	root  atomic.Pointer[part]
	links atomic.Pointer[hardlinks]
	names atomic.Pointer[names]
}

// NewTree returns the tree of so many layers, lowest first. index returns one's
// index, the same each time, and may wait until it is made. Its errors are
// returned, and it is asked again.
func NewTree(layers int, index func(ctx context.Context, i int) (*layer.Index, error)) *Tree {
	return &Tree{index: index, layers: make([]slot, layers)}
}

// A File is a file or a directory of a Tree or a Lower. It does not change. Files that are no
// directories are the same, by whatever name they were found, if Layer and Node
// are.
type File struct {
	Layer int    // whose index has its attributes, and its content
	Node  uint32 // in that index, the first of its names

	inode  *layer.Inode
	dir    *part // of a directory
	opaque bool
}

// Inode returns the file's attributes.
func (f *File) Inode() *layer.Inode { return f.inode }

// IsDir says whether it is a directory.
func (f *File) IsDir() bool { return f.dir != nil }

// Opaque says whether it is a directory of a Lower that hides what the layers below
// have in it. Inode does not tell: its attributes may be those of another layer.
func (f *File) Opaque() bool { return f.opaque }

// Root returns the root. It waits for the root's attributes, which Lookup and List
// do not.
func (t *Tree) Root(ctx context.Context) (*File, error) {
	p, err := t.top(ctx)
	if err != nil {
		return nil, err
	}
	return t.directory(ctx, p)
}

// top returns the uppermost part of the root.
func (t *Tree) top(ctx context.Context) (*part, error) {
	if len(t.layers) == 0 {
		root := layer.Inode{Kind: layer.Dir, Implied: true, Mode: 0o755, Links: 1}
		return &part{ix: &layer.Index{Nodes: make([]layer.Node, 1), Inodes: layer.Inodes{{root}}}}, nil
	}
	return t.root(ctx, len(t.layers)-1)
}

// part returns the uppermost part of the directory dir, nil being the root.
func (t *Tree) part(ctx context.Context, dir *File) (*part, error) {
	switch {
	case dir == nil:
		return t.top(ctx)
	case !dir.IsDir():
		return nil, syscall.ENOTDIR
	}
	return dir.dir, nil
}

// Lookup returns what has the name in the directory dir, nil being the root. The error is
// iofs.ErrNotExist if nothing has, a *LinkError for a hard link to nothing,
// syscall.ENOTDIR if dir is no directory, and those of the indexes.
func (t *Tree) Lookup(ctx context.Context, dir *File, name string) (*File, error) {
	in, err := t.part(ctx, dir)
	if err != nil {
		return nil, err
	}
	p, err := t.find(ctx, in, name)
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return nil, iofs.ErrNotExist
	case p.kind() == layer.Dir:
		return t.directory(ctx, p)
	}
	f, err := t.file(ctx, p)
	if f == nil && err == nil {
		err = &LinkError{Layer: p.layer, Path: p.ix.Path(p.node), Link: p.inode().Link()}
	}
	return f, err
}

// directory returns the directory whose uppermost part is p. Its attributes are
// those of the uppermost entry of it, where a layer has one.
func (t *Tree) directory(ctx context.Context, p *part) (*File, error) {
	from := p
	for q := p; q != nil && q.kind() == layer.Dir; {
		if !q.inode().Implied {
			from = q
			break
		}
		var err error
		if q, err = t.lower(ctx, q); err != nil {
			return nil, err
		}
	}
	return &File{Layer: from.layer, Node: from.inode().Node, inode: from.inode(), dir: p}, nil
}

// file returns the file that p is, or is a hard link to; nil for a link to nothing.
func (t *Tree) file(ctx context.Context, p *part) (*File, error) {
	if p.kind() != layer.Hardlink {
		return &File{Layer: p.layer, Node: p.inode().Node, inode: p.inode()}, nil
	}
	links, err := t.hardlinks(ctx, p.layer)
	return links[p.ix.Nodes[p.node].Inode], err
}

// A LinkError is a hard link to what the layers below have not, or have as a
// directory. There is no file of its name, but nor is it as if the image had none:
// unpacking the layer fails.
type LinkError struct {
	Layer      int
	Path, Link string
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("layer %d: %.200q is a hard link to %.200q, of which the layers below have no file", e.Layer, e.Path, e.Link)
}

// Is makes it syscall.EIO.
func (e *LinkError) Is(target error) bool { return target == syscall.EIO }
