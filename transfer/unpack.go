package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"slices"

	"distfs/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// UnpackOptions regulate an Unpacker. A nil *UnpackOptions means the zero value.
type UnpackOptions struct {
	// MaxBytes bounds a layer's files together, and its tar, in bytes. Runs of
	// zeros count though they take no disk. 0 means the size of the file system.
	MaxBytes int64
}

// Losses count what an Unpacker could not do because its user may not.
type Losses struct {
	Owners  int64  // entries that belong to the user instead of their owner
	Devices int64  // devices left out
	Dirs    int64  // entries for somebody else's directories, which are as they were
	Xattrs  int64  // extended attributes left out
	Xattr   string // which of them was the first, of what, and why
}

// An Unpacker unpacks layers into a directory, one after the other. It is for
// one goroutine, and has the directory to itself among Unpackers.
type Unpacker struct {
	dir    string
	root   int // its descriptor
	opts   layer.Options
	owner  [2]uint32 // the user and group that new files belong to
	super  bool      // no permission bits hold the user up
	losses Losses
	seed   maphash.Seed
	buf    []byte
}

// NewUnpacker returns an Unpacker into dir, which is made if it is absent; its
// parent is not. Close it. The error is syscall.EBUSY if another Unpacker is at work
// there, of this process or of another: two would leave a mixture.
func NewUnpacker(dir string, opts *UnpackOptions) (*Unpacker, error) {
	err := os.Mkdir(dir, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &Unpacker{
		dir: dir, root: root, owner: [2]uint32{uint32(os.Geteuid()), uint32(os.Getegid())}, super: os.Geteuid() == 0,
		seed: maphash.MakeSeed(), buf: make([]byte, copySize),
	}
	err = u.lock()
	if made && err == nil {
		err = unix.UtimesNanoAt(root, ".", make([]unix.Timespec, 2), 0) // as cursor.create has it
	}
	if err == nil {
		err = u.limit(opts)
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "unpack", Path: dir, Err: err}, u.Close())
	}
	return u, nil
}

// lock keeps other Unpackers out until the directory's descriptor is closed. Not
// every file system knows such locks of a directory that is open for reading: over
// NFS it is as it would be without.
func (u *Unpacker) lock() error {
	if err := unix.Flock(u.root, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another pull or unpack is at work in it: %w", unix.EBUSY)
	}
	return nil
}

func (u *Unpacker) limit(opts *UnpackOptions) error {
	if opts != nil && opts.MaxBytes > 0 {
		u.opts.MaxBytes = opts.MaxBytes
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(u.root, &fs); err != nil {
		return err
	}
	u.opts.MaxBytes = int64(fs.Blocks) * cmp.Or(fs.Frsize, fs.Bsize)
	return nil
}

// Close lets go of the directory.
func (u *Unpacker) Close() error { return unix.Close(u.root) }

// Losses returns what was lost so far.
func (u *Unpacker) Losses() Losses { return u.losses }

// Layer unpacks the layer in r, which lies above all that were unpacked before
// it. It reads r to its end, where its checksum is. It ends when ctx is done, but
// not before a Read that is under way. With an error the tree has a part of the
// layer. Errors are those of layer.Reader, and the kernel's.
func (u *Unpacker) Layer(ctx context.Context, r io.Reader) error { return u.layer(ctx, r, &u.opts) }

// LayerOf unpacks as Layer does a layer whose tar has the digest diffID, which
// must be valid. If it has another one the error is syscall.EIO, and the tree has
// the layer. toc is the annotation layer.AnnotationTOC of its descriptor.
func (u *Unpacker) LayerOf(ctx context.Context, r io.Reader, diffID digest.Digest, toc string) error {
	v := diffID.Verifier()
	opts := u.opts
	opts.Tar, opts.TOC = v, toc
	if err := u.layer(ctx, r, &opts); err != nil {
		return err
	}
	if !v.Verified() {
		return broken("the tar in it is not the one that the image's config names, %s", diffID)
	}
	return nil
}

func (u *Unpacker) layer(ctx context.Context, r io.Reader, opts *layer.Options) error {
	entries, err := layer.NewReader(r, opts)
	if err != nil {
		return err
	}
	defer entries.Close()
	a := &applier{Unpacker: u, entries: entries, marks: newMarks(), steps: layerSteps, ended: ctx.Err}
	a.at, err = a.cursor()
	if err != nil {
		return err
	}
	err = a.all(ctx)
	return errors.Join(err, a.at.leave(0))
}

// An applier unpacks one layer.
type applier struct {
	*Unpacker
	entries *layer.Reader
	at      *cursor // where the last entry was
	marks   *marks  // what this layer brought: see mark
	steps   int64   // that it may still take: see walk
	ended   func() error
}

func (a *applier) all(ctx context.Context) error {
	for {
		e, err := a.entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		a.steps += entrySteps
		if err := a.apply(ctx, e); err != nil {
			if _, read := errors.AsType[*readError](err); !read && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
				err = fmt.Errorf("the file system of %s takes no more: %w", a.dir, err)
			}
			return fmt.Errorf("entry %.200q: %w", e.Name, err)
		}
	}
}

func (a *applier) apply(ctx context.Context, e *layer.Entry) error {
	switch {
	case e.Kind == layer.Opaque:
		return a.opaque(e.Name)
	case e.Kind == layer.Whiteout:
		return a.whiteout(e.Name)
	case e.Name == ".":
		if err := a.at.leave(1); err != nil {
			return err
		}
		return a.setDir(e)
	}
	above, name := path.Split(e.Name)
	parent, err := a.at.to(path.Clean(above), true)
	if err != nil {
		return err
	}
	a.markAll()
	switch e.Kind {
	case layer.Dir:
		if err := a.at.enter(name); err != nil {
			return err
		}
		a.markAll()
		return a.setDir(e)
	case layer.Hardlink:
		err = a.hardlink(parent, name, e.Link)
	default:
		err = a.file(ctx, parent, name, e)
	}
	if err != nil {
		return err
	}
	mark := a.mark(parent, name)
	if !parent.fresh {
		a.marks.make(mark)
	}
	return a.leaveVia(mark)
}

// leaveVia leaves the directories that were reached by what has the mark, a link that
// was replaced just now: its name leads there no longer.
func (a *applier) leaveVia(mark uint64) error {
	for i, d := range a.at.dirs {
		if slices.Contains(d.via, mark) {
			return a.at.leave(i)
		}
	}
	return nil
}

// setDir gives the directory where the applier is what e says of it: its times,
// and a mode that would hold the user up, when it is left. Of somebody else's these
// are not the user's to set.
func (a *applier) setDir(e *layer.Entry) error {
	d, now := a.at.top(), e.Mode
	if d.foreign {
		a.losses.Dirs++
		return nil
	}
	if !a.super {
		now |= 0o700
	}
	d.times, d.mode, d.open = times(e), e.Mode, now != e.Mode
	return a.attributes(d.fd, e, now)
}
