package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
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
	of     digest.Digest // the image's manifest, or the layer
	files  *image.Tree
	layers []*layerFiles // lowest first
	lone   bool          // it is one layer, as overlayfs wants a lower directory
}

// A treeNode is what all files of a tree have.
type treeNode struct {
	t    *tree
	file *image.File
	path string
	id   identity
	attr attributes
}

func (n *treeNode) identity() identity { return n.id }

func (n *treeNode) String() string { return n.path }

func (n *treeNode) attributes() attributes {
	a := n.attr
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
func (t *tree) node(ctx context.Context, f *image.File, path string) (node, error) {
	links, err := t.files.Links(ctx, f)
	if err != nil {
		return nil, err
	}
	ino := f.Inode()
	n := treeNode{t: t, file: f, path: path, id: t.identify(f.Inode().Kind, path, f.Layer, t.firstPath(f.Layer, f.Node))}
	n.attr = attributes{
		mode: modes[ino.Kind] | ino.Mode, size: ino.Size, entry: forever, valid: forever,
		inode: &inode{
			uid: ino.UID, gid: ino.GID, links: links, rdev: uint32(unix.Mkdev(ino.Major, ino.Minor)),
			seconds: ino.Seconds, nanoseconds: ino.Nanoseconds,
		},
	}
	switch ino.Kind {
	case layer.Dir:
		return &treeDir{n}, nil
	case layer.Symlink:
		n.attr.size = int64(len(ino.Link))
		return &treeLink{n}, nil
	case layer.File:
		return newTreeFile(n), nil
	}
	return &treeSpecial{n}, nil
}

// firstPath is the first path that a layer has for what a node of it is.
func (t *tree) firstPath(layer int, node uint32) string {
	if ix := t.layers[layer].held(); ix != nil {
		return ix.Path(node)
	}
	return "."
}

// identify is the identity of a file: of a directory by its path in the mount, of
// others by the first path that their layer has for them, so that hard links are one.
func (t *tree) identify(kind layer.Kind, path string, layer int, first string) identity {
	if modes[kind] == syscall.S_IFDIR {
		return identifyDirectory(path)
	}
	return identify("tree", t.loc.Host, t.loc.Path, string(t.of), strconv.Itoa(layer), first)
}

// A treeDir is a directory of a tree.
type treeDir struct{ treeNode }

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
	if nothing, ok := errors.AsType[*image.LinkError](err); ok {
		t.s.log.Warn("a file is not there", "path", join(path, name), "err", nothing)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, t.absent()
	}
	if err != nil {
		return nil, err
	}
	return t.node(ctx, f, join(path, name))
}

// absent is that a name is not there. Which names a table of contents hides is not
// known before it was held against the tar.
func (t *tree) absent() error {
	for _, l := range t.layers {
		if ix := l.held(); ix != nil && ix.View == layer.ViewTOC {
			return &neverError{unsureHolds}
		}
	}
	return errNever
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
		id := t.identify(item.Kind, join(path, item.Name), item.Layer, t.firstPath(item.Layer, item.Node))
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

func (l *treeLink) readlink(context.Context) (string, error) { return l.file.Inode().Link, nil }

// A treeSpecial is a device or a fifo: the kernel opens it itself.
type treeSpecial struct{ treeNode }

var (
	_ = asker((*treeSpecial)(nil))
	_ = attributed((*treeSpecial)(nil))
	_ = listed((*treeSpecial)(nil))
)
