package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"

	"distfs/layer"

	"golang.org/x/sys/unix"
)

// A file is written by so many bytes; where they are all zeros it has a hole.
const copySize = 256 << 10

var zeros [4 << 10]byte

// nodes are the types that mknod(2) makes.
var nodes = map[layer.Kind]uint32{layer.CharDevice: unix.S_IFCHR, layer.BlockDevice: unix.S_IFBLK, layer.Fifo: unix.S_IFIFO}

// file makes what is neither a directory nor a hard link.
func (a *applier) file(ctx context.Context, parent *dir, name string, e *layer.Entry) error {
	var err error
	switch e.Kind {
	case layer.File:
		return a.regular(ctx, parent, name, e)
	case layer.Symlink:
		err = a.place(name, func() error { return unix.Symlinkat(e.Link, parent.fd, name) })
	default:
		err = a.place(name, func() error {
			return unix.Mknodat(parent.fd, name, nodes[e.Kind]|0o600, int(unix.Mkdev(e.Major, e.Minor)))
		})
		if errors.Is(err, unix.EPERM) && e.Kind != layer.Fifo {
			a.losses.Devices++
			return nil
		}
	}
	if err != nil {
		return err
	}
	return a.special(parent, name, e)
}

// place calls put, and once more when what was in the way is gone.
func (a *applier) place(name string, put func() error) error {
	err := put()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := a.remove(a.at, name, nil); err != nil {
		return err
	}
	return put()
}

func (a *applier) regular(ctx context.Context, parent *dir, name string, e *layer.Entry) (err error) {
	var fd int
	if err := a.place(name, func() (err error) {
		fd, err = unix.Openat(parent.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := a.content(ctx, fd, e.Size); err != nil {
		return err
	}
	if err := a.attributes(fd, e, e.Mode); err != nil {
		return err
	}
	return setTimes(fd, times(e))
}

// content writes the entry's content, of size bytes, to fd.
func (a *applier) content(ctx context.Context, fd int, size int64) error {
	var at, end int64 // how much was read, and where what was written ends
	for at < size {
		n, err := io.ReadFull(a.entries, a.buf[:min(int64(len(a.buf)), size-at)])
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return &readError{err}
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if !isZero(a.buf[:n]) {
			if err := writeAt(fd, a.buf[:n], at); err != nil {
				return err
			}
			end = at + int64(n)
		}
		at += int64(n)
	}
	if end < size {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

// A readError is one in reading a layer, and not in writing what is in it.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

func isZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if !bytes.Equal(p[:n], zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

func writeAt(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// hardlink makes name a further name of target.
func (a *applier) hardlink(parent *dir, name, target string) error {
	there, err := a.cursor()
	if err != nil {
		return err
	}
	return errors.Join(a.linkFrom(there, parent, name, target), there.leave(0))
}

func (a *applier) linkFrom(there *cursor, parent *dir, name, target string) error {
	above, base := path.Split(target)
	from, err := there.to(path.Clean(above), false)
	if errors.Is(err, errAbsent) {
		return unix.ENOENT
	}
	if err != nil {
		return err
	}
	if from.dev == parent.dev && from.ino == parent.ino && base == name { // it is itself
		var st unix.Stat_t
		return unix.Fstatat(parent.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	return a.place(name, func() error { return unix.Linkat(from.fd, base, parent.fd, name, 0) })
}
