package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"distfs/image"
	"distfs/layer"
	"distfs/locator"
)

// A tree is a directory of the mount that shows the files of an image, or of one of
// its layers. Nothing in it ever changes.
type tree struct {
	s      *server
	loc    locator.Locator
	of     string // what it is the tree of, in the repository
	merged *image.Tree
	files  treeFiles     // merged, or one layer of it
	layers []*layerFiles // lowest first; of a layer's tree the last is that layer
	lower  bool          // it is a layer's, as overlayfs wants a lower directory
}

// treeFiles are the files of a tree: an *image.Tree, or an *image.Lower.
type treeFiles interface {
	Root(ctx context.Context) (*image.File, error)
	Lookup(ctx context.Context, dir *image.File, name string) (*image.File, error)
	List(ctx context.Context, dir *image.File) ([]image.Item, error)
	Links(ctx context.Context, f *image.File) (uint32, error)
}

// A treeNode is what all files of a tree have.
type treeNode struct {
	t         *tree
	file      *image.File
	dir, name string // the path of its directory, and what it is called there
	id        identity
	links     uint32
}

func (n *treeNode) identity() identity { return n.id }

func (n *treeNode) String() string { return join(n.dir, n.name) }

func (n *treeNode) attributes() attributes {
	ino := n.file.Inode()
	a := attributes{
		mode: modes[ino.Kind] | ino.Mode, size: ino.Size, entry: forever, valid: forever,
		inode: inode{
			uid: ino.UID, gid: ino.GID, links: n.links, rdev: uint32(unix.Mkdev(ino.Device())),
			seconds: ino.Seconds, nanoseconds: ino.Nanoseconds,
		},
	}
	if ino.Kind == layer.Symlink {
		a.size = int64(len(ino.Link()))
	}
	if n.t.bad() != nil {
		a.valid = 0
	}
	return a
}

// ask says why what is known of the node no longer counts.
func (n *treeNode) ask(context.Context) error { return n.t.bad() }

// of says whether what the node shows depends on a layer.
func (n *treeNode) of(l *layerFiles) bool { return slices.Contains(n.t.layers, l) }

// modes are the types of files.
var modes = map[layer.Kind]uint32{
	layer.File: syscall.S_IFREG, layer.Dir: syscall.S_IFDIR, layer.Symlink: syscall.S_IFLNK, layer.Fifo: syscall.S_IFIFO,
	layer.CharDevice: syscall.S_IFCHR, layer.BlockDevice: syscall.S_IFBLK, layer.Whiteout: syscall.S_IFCHR,
}

// node returns what a file of the tree is to the kernel.
func (t *tree) node(ctx context.Context, f *image.File, dir, name string) (node, error) {
	links, err := t.files.Links(ctx, f)
	if err != nil {
		return nil, err
	}
	ino, path := f.Inode(), join(dir, name)
	n := treeNode{t: t, file: f, dir: dir, name: name, links: max(links, 1), id: t.identify(ino.Kind, path, f.Layer, f.Node)}
	switch {
	case ino.Kind == layer.Dir:
		return &treeDir{n, path}, nil
	case ino.Kind == layer.Symlink:
		return &treeLink{n}, nil
	case ino.Kind != layer.File:
		return &treeSpecial{n}, nil
	case ino.Size >= passFrom:
		return newLargeFile(n), nil
	}
	return &treeFile{treeContent{treeNode: n}}, nil
}

// identify is the identity of a file: of a directory by its path in the mount, of
// others by the first path that their layer has for them, so that hard links are one.
func (t *tree) identify(kind layer.Kind, path string, layer int, node uint32) identity {
	if modes[kind] == syscall.S_IFDIR {
		return identifyDirectory(path)
	}
	first := ""
	if ix := t.layers[layer].held(); ix != nil {
		first = ix.Path(node)
	}
	return identify("tree", t.loc.Host, t.loc.Path, t.of, strconv.Itoa(layer), first)
}

// A treeDir is a directory of a tree.
type treeDir struct {
	treeNode
	path string
}

var (
	_ = asker((*treeDir)(nil))
	_ = directory((*treeDir)(nil))
	_ = settledDir((*treeDir)(nil))
	_ = attributed((*treeDir)(nil))
	_ = listed((*treeDir)(nil))
)

func (*treeDir) settled() bool { return true }

func (d *treeDir) lookup(ctx context.Context, name string) (node, error) {
	return d.t.lookup(ctx, d.file, d.path, name)
}

func (d *treeDir) list(ctx context.Context) ([]entry, error) { return d.t.list(ctx, d.file, d.path) }

// lookup finds a name in a directory of the tree, nil for its root, which has that path.
func (t *tree) lookup(ctx context.Context, dir *image.File, path, name string) (node, error) {
	if err := t.bad(); err != nil {
		return nil, err
	}
	f, err := t.files.Lookup(ctx, dir, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, t.absent()
	}
	if err != nil {
		return nil, err
	}
	return t.node(ctx, f, path, name)
}

// absent is that a name is not there. Which names a table of contents hides is not
// known before it was held against the tar.
func (t *tree) absent() error {
	absent := &neverError{forever, "no such file in the image"}
	if t.lower {
		absent.why = "no such file in the layer"
	}
	for _, l := range t.layers {
		if ix := l.held(); ix != nil && ix.View == layer.ViewTOC {
			absent.holds = unsureHolds
		}
	}
	return absent
}

// unsureHolds is for how long the kernel may remember that a name is not there which
// a table of contents may hide.
const unsureHolds = 3 * time.Second

func (t *tree) list(ctx context.Context, dir *image.File, path string) ([]entry, error) {
	if err := t.bad(); err != nil {
		return nil, err
	}
	items, err := t.files.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(items))
	for i, item := range items {
		id := t.identify(item.Kind, join(path, item.Name), item.Layer, item.Node)
		entries[i] = entry{name: item.Name, mode: modes[item.Kind], ino: id.ino}
	}
	return entries, nil
}

// A treeLink is a symbolic link, as it stands.
type treeLink struct{ treeNode }

var (
	_ = asker((*treeLink)(nil))
	_ = link((*treeLink)(nil))
	_ = attributed((*treeLink)(nil))
	_ = listed((*treeLink)(nil))
)

func (l *treeLink) readlink(context.Context) (string, error) { return l.file.Inode().Link(), nil }

// A treeSpecial is a device or a fifo: the kernel opens it itself.
type treeSpecial struct{ treeNode }

var (
	_ = asker((*treeSpecial)(nil))
	_ = attributed((*treeSpecial)(nil))
	_ = listed((*treeSpecial)(nil))
)
