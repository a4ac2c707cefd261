package transfer

import (
	"errors"
	"hash/maphash"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// mark is the mark of name in d: by where it is, so that links to d do not
// matter.
//
// What lies below a directory that this layer made needs no mark, so that few
// are held.
func (u *Unpacker) mark(d *dir, name string) uint64 {
	return maphash.Comparable(u.seed, struct {
		dev, ino uint64
		name     string
	}{d.dev, d.ino, name})
}

// marks are what a layer brought. There can be millions, so that both are sets.
type marks struct {
	made map[uint64]struct{} // what it made
	into map[uint64]struct{} // and directories that it put something into
}

func newMarks() *marks {
	return &marks{make(map[uint64]struct{}), make(map[uint64]struct{})}
}

func (m *marks) make(mark uint64) { m.made[mark] = struct{}{} }

func (m *marks) isMade(mark uint64) bool {
	_, made := m.made[mark]
	return made
}

func (m *marks) isInto(mark uint64) bool {
	_, into := m.into[mark]
	return into
}

// markAll marks where the applier is, and all on the way there, as what this
// layer put something into.
func (a *applier) markAll() {
	for _, d := range a.at.dirs {
		if !d.marked {
			for _, m := range d.via {
				if !a.marks.isMade(m) {
					a.marks.into[m] = struct{}{}
				}
			}
			d.marked = true
		}
		if d.fresh {
			return
		}
	}
}

// opaque removes what lower layers have in the directory name.
func (a *applier) opaque(name string) error {
	d, err := a.at.to(name, false)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil || d.fresh {
		return err
	}
	return a.clear(a.at, a.marks)
}

// whiteout removes name, as far as lower layers have it.
func (a *applier) whiteout(name string) error {
	above, base := path.Split(name)
	d, err := a.at.to(path.Clean(above), false)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil || d.fresh {
		return err
	}
	return a.remove(a.at, base, a.marks)
}

// remove removes name from where c is, but for what keep has. Nothing of that
// name is no error.
func (a *applier) remove(c *cursor, name string, keep *marks) error {
	kept := false
	if keep != nil {
		mark := a.mark(c.top(), name)
		if kept = keep.isInto(mark); kept || keep.isMade(mark) {
			if err := a.walk(1); err != nil { // what is kept is met by each whiteout again
				return err
			}
		}
		if keep.isMade(mark) {
			return nil
		}
	}
	if !kept {
		err := unix.Unlinkat(c.top().fd, name, 0)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EISDIR) {
			return err
		}
		keep = nil
	}
	n := len(c.dirs)
	if err := c.push(c.top().fd, name); err != nil {
		return err
	}
	err := errors.Join(a.clear(c, keep), c.leave(n))
	if err != nil || kept {
		return err
	}
	return unix.Unlinkat(c.top().fd, name, unix.AT_REMOVEDIR)
}

// clear removes all that is where c is, but for what keep has.
func (a *applier) clear(c *cursor, keep *marks) error {
	fd, err := unix.Openat(c.top().fd, ".", openFlags, 0)
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(fd), "directory")
	defer list.Close()
	for {
		names, err := list.Readdirnames(256)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := a.remove(c, name, keep); err != nil {
				return err
			}
		}
	}
}
