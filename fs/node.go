package fs

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// forever is how long the kernel may keep what never changes.
const forever = 10 * 365 * 24 * time.Hour

// A node is a file, a link or a directory. What else can be done with it is in
// the interfaces below, one a kind of request.
type node interface {
	// identity is the same for the life of the node.
	identity() identity
	// attributes tells what is known without asking anybody. The caller hands
	// it to the kernel.
	attributes() attributes
	// String is the path from the root of the mount.
	String() string
}

// attributes are what stat shows, and for how long the kernel may believe it.
type attributes struct {
	mode  uint32 // with the type
	size  int64
	entry time.Duration // for which the name means this node
	valid time.Duration // of these attributes; 0: not known yet, see asker

	inode inode // of an image's file; without links: it is the mounting user's, of 1970, and has one name
}

// An inode is what an image says of one of its files.
type inode struct {
	uid, gid, links, rdev uint32
	seconds               int64 // since 1970, when it was modified, and
	nanoseconds           uint32
}

// An asker has attributes that only its source knows. When ask returned nil
// they are valid.
type asker interface {
	ask(ctx context.Context) error
}

// A directory has names. lookup may not ask the network above an image. Its
// error is errNever for what will never be there.
type directory interface {
	lookup(ctx context.Context, name string) (node, error)
	list(ctx context.Context) ([]entry, error)
}

// An entry is a line of a directory's listing.
type entry struct {
	name string
	mode uint32 // only the type counts
	ino  uint64 // 0 is unknown
}

// A link points somewhere else.
type link interface {
	readlink(ctx context.Context) (string, error)
}

// A file can be opened. errStale: look the name up again.
type file interface {
	open(ctx context.Context) (*handle, error)
}

// An unopened file can be read without having been opened.
type unopened interface {
	readAlone(ctx context.Context, off int64, n int) (fuse.ReadResult, error)
}

// A handleless file takes nothing to open, and is read as one that was not.
type handleless interface {
	unopened
	mayOpen() error
}

// An attributed node has extended attributes. The error is syscall.ENODATA
// where there is none of that name.
type attributed interface {
	xattr(name string) (string, error)
}

// A listed node has extended attributes whose names are told.
type listed interface {
	xattrs() []string
}

// A forgettable node wants to know when the kernel forgot it.
type forgettable interface {
	forgotten()
}

var (
	// errNever is that a name can't exist, by grammar.
	errNever = &neverError{forever, "no such name, by grammar"}
	// errNotNamed is that an image's manifest, or the index that it is, has nothing
	// for a name.
	errNotNamed = &neverError{forever, "the image's manifest has nothing of that name"}
	// errStale makes the kernel look the path up again, once: what it was told
	// of the node is no longer how things are.
	errStale = errors.New("stale inode")
)

// A neverError is fs.ErrNotExist that may be remembered, and for how long.
type neverError struct {
	holds time.Duration
	why   string
}

func (e *neverError) Error() string { return e.why }

func (*neverError) Is(target error) bool { return syscall.ENOENT.Is(target) }

// fill writes what stat shows.
func (s *server) fill(out *fuse.Attr, id identity, a attributes) {
	*out = fuse.Attr{
		Ino:     id.ino,
		Mode:    a.mode,
		Size:    uint64(a.size),
		Blocks:  uint64(a.size+511) / 512,
		Blksize: 4096,
		Nlink:   1,
		Owner:   s.owner,
	}
	if n := a.inode; n.links > 0 {
		out.Uid, out.Gid, out.Nlink, out.Rdev = n.uid, n.gid, n.links, n.rdev
		out.Mtime, out.Mtimensec = uint64(n.seconds), n.nanoseconds
		out.Atime, out.Atimensec, out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec, out.Mtime, out.Mtimensec
	}
}
