package transfer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// A dir is a directory that is open, and what it is to be like when it is left.
type dir struct {
	name     string // the component of the entries' names
	fd       int
	dev, ino uint64
	fresh    bool     // this layer made it, or one above it
	marked   bool     // it and what leads to it are among the marks
	via      []uint64 // the marks of it and of what leads to it from the one before
	foreign  bool     // it is somebody else's, who alone may set its times
	times    []unix.Timespec
	mode     uint32
	open     bool // it has other permission bits than mode, for its user to get in
}

// A cursor is at a directory of the tree, and has all from the root to there
// open. A tar has its entries in the order of a walk, so that most are where
// the one before was.
type cursor struct {
	a     *applier
	dirs  []*dir // the first is the root
	plain bool   // links are not followed
}

// errAbsent says that a directory isn't there, and wasn't to be made.
var errAbsent = errors.New("no such directory")

const openFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// cursor returns a cursor at the root. Whoever has it leaves all of it in the end.
func (a *applier) cursor() (*cursor, error) {
	c := &cursor{a: a}
	return c, c.push(a.root, ".")
}

func (c *cursor) top() *dir { return c.dirs[len(c.dirs)-1] }

// to goes to the directory of the clean name. With create what is missing is
// made and what is no directory makes way; else the error is errAbsent.
func (c *cursor) to(name string, create bool) (*dir, error) {
	n := 1
	if name != "." {
		for part := range strings.SplitSeq(name, "/") {
			if n == len(c.dirs) || c.dirs[n].name != part {
				if err := c.leave(n); err != nil {
					return nil, err
				}
				if err := c.descend(part, create); err != nil {
					return nil, err
				}
			}
			n++
		}
	}
	if err := c.leave(n); err != nil {
		return nil, err
	}
	return c.top(), nil
}

// leave leaves all directories but the first n.
func (c *cursor) leave(n int) error {
	var all error
	for len(c.dirs) > n {
		d := c.top()
		c.dirs = c.dirs[:len(c.dirs)-1]
		all = errors.Join(all, d.leave())
	}
	return all
}

func (d *dir) leave() error {
	var err error
	if !d.foreign {
		err = unix.UtimesNanoAt(d.fd, ".", d.times, 0)
	}
	if d.open {
		err = errors.Join(err, unix.Fchmod(d.fd, d.mode))
	}
	return errors.Join(err, unix.Close(d.fd))
}

// descend goes to the directory, or along the link to one, of that name.
func (c *cursor) descend(name string, create bool) error {
	if err := c.a.walk(1); err != nil {
		return err
	}
	err := c.push(c.top().fd, name)
	switch {
	case errors.Is(err, unix.ENOENT) && create:
		return c.create(name)
	case errors.Is(err, unix.ENOENT):
		return errAbsent
	case !errors.Is(err, unix.ENOTDIR):
		return err
	}
	link, err := c.isLink(name)
	switch {
	case err != nil:
		return err
	case link && c.plain: // it was none when it was found out where a link leads
		return unix.ELOOP
	case link:
		return c.follow(name, create)
	case create:
		return c.enter(name)
	}
	return errAbsent
}

func (c *cursor) isLink(name string) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(c.top().fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st.Mode&unix.S_IFMT == unix.S_IFLNK, err
}

// enter goes to the directory of that name, which is made where there is none,
// in the place of what is there.
func (c *cursor) enter(name string) error {
	err := c.push(c.top().fd, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return c.create(name)
	case !errors.Is(err, unix.ENOTDIR):
		return err
	}
	if err := unix.Unlinkat(c.top().fd, name, 0); err != nil {
		return err
	}
	return c.create(name)
}

// create makes a directory and goes there. Until an entry says more of it, it is
// the user's, readable to all, and of 1970, so that two runs make the same.
func (c *cursor) create(name string) error {
	if err := unix.Mkdirat(c.top().fd, name, 0o700); err != nil {
		return err
	}
	if above := c.top(); !above.fresh {
		c.a.marks.make(c.a.mark(above, name))
	}
	if err := c.push(c.top().fd, name); err != nil {
		return err
	}
	d := c.top()
	d.times, d.mode = make([]unix.Timespec, 2), 0o755
	return unix.Fchmod(d.fd, d.mode)
}

// push opens the directory name of parent and goes there. If it is a link, or no
// directory, the error is unix.ENOTDIR.
func (c *cursor) push(parent int, name string) error {
	fd, err := unix.Openat(parent, name, openFlags, 0)
	was := uint32(0)
	shut := errors.Is(err, unix.EACCES) && !c.a.super
	if shut {
		fd, was, err = unlock(parent, name)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	d := &dir{
		name: name, fd: fd, dev: st.Dev, ino: st.Ino, foreign: !c.a.super && st.Uid != c.a.owner[0],
		times: []unix.Timespec{st.Atim, st.Mtim}, mode: st.Mode & 0o7777, open: shut,
	}
	switch {
	case shut:
		d.mode = was
	case !c.a.super && !d.foreign && d.mode&0o700 != 0o700:
		d.open = true
		if err := unix.Fchmod(fd, d.mode|0o700); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
	}
	if len(c.dirs) > 0 {
		mark := c.a.mark(c.top(), name)
		d.fresh = c.top().fresh || c.a.marks.isMade(mark)
		d.via = []uint64{mark}
	}
	c.dirs = append(c.dirs, d)
	return nil
}

// unlock opens a directory whose permission bits hold its own user up. It has
// them for now, and was is what it had.
func unlock(parent int, name string) (fd int, was uint32, err error) {
	fd, err = unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	was = st.Mode & 0o7777
	if err := unix.Chmod(procPath(fd), was|0o700); err != nil {
		return 0, 0, err
	}
	// By what is open, not by the name again: it is that one's bits that were changed.
	opened, err := unix.Openat(fd, ".", openFlags, 0)
	return opened, was, err
}

// follow goes to where the link name leads, with the tree's root for the root.
func (c *cursor) follow(name string, create bool) error {
	var names []string
	for _, d := range c.dirs[1:] {
		names = append(names, d.name)
	}
	root := procPath(c.a.root)
	resolved, err := securejoin.SecureJoinVFS(root, strings.Join(append(names, name), "/"), lookups{c.a})
	if err != nil {
		return err
	}
	// Whatever was found out: from here on no link is followed.
	there, err := c.a.cursor()
	if err != nil {
		return err
	}
	there.plain = true
	d, err := there.to(path.Clean(strings.TrimPrefix(strings.TrimPrefix(resolved, root), "/")), create)
	if err != nil {
		return errors.Join(err, there.leave(0))
	}
	there.dirs = there.dirs[:len(there.dirs)-1]
	for _, on := range there.dirs {
		d.via = append(d.via, on.via...)
	}
	d.name = name
	c.dirs = append(c.dirs, d)
	return there.leave(0)
}

// lookups are what securejoin asks of the tree, each a walk of its own from the root.
type lookups struct{ a *applier }

func (l lookups) Lstat(name string) (os.FileInfo, error) {
	if err := l.a.walk(1 + len(name)/lookupStep); err != nil {
		return nil, err
	}
	return os.Lstat(name)
}

func (l lookups) Readlink(name string) (string, error) {
	if err := l.a.walk(1 + len(name)/lookupStep); err != nil {
		return "", err
	}
	return os.Readlink(name)
}

// The steps that one layer may take on the ways to its entries: a directory opened,
// or a name looked up of so many bytes, which takes some microseconds. A tar in the
// order of a walk takes one or two an entry; links to links, and entries that are far
// from each other, can be made to take a hundred thousand.
const (
	layerSteps = 256 << 10
	entrySteps = 64 // besides
	lookupStep = 64 // bytes
)

// walk takes n steps. It fails when there were too many, or the time is up.
func (a *applier) walk(n int) error {
	if a.steps -= int64(n); a.steps < 0 {
		return fmt.Errorf("the ways to the layer's entries are too long, or lead by too many links: %w", unix.EFBIG)
	}
	return a.ended()
}

// procPath names what fd has open. The kernel takes it for that very file.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
