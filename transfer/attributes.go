package transfer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"distfs/layer"

	"golang.org/x/sys/unix"
)

// attributes gives the open file or directory what e says, but with mode and
// without times. A change of owner takes setuid bits and capabilities away, so
// it comes first.
func (a *applier) attributes(fd int, e *layer.Entry, mode uint32) error {
	if err := a.chown(e, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		return err
	}
	if a.super { // an access list that the layer has is the last word on permissions
		if err := unix.Fchmod(fd, mode); err != nil {
			return err
		}
	}
	if err := a.setXattrs(e, xattrs{
		list:   func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		remove: func(name string) error { return unix.Fremovexattr(fd, name) },
		set:    func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) },
	}); err != nil || a.super {
		return err
	}
	return unix.Fchmod(fd, mode) // who is not root sets attributes while he may write
}

// special gives a link, a device or a fifo what e says. It has no descriptor from
// when it was made, and whoever owns the directory may have put another file in
// its place since: what is found under the name is held against what was made, and
// from then on it is worked on that alone.
func (a *applier) special(parent *dir, name string, e *layer.Entry) (err error) {
	fd, err := unix.Openat(parent.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := a.isNew(fd, e); err != nil {
		return err
	}
	if err := a.chown(e, func(uid, gid int) error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) }); err != nil {
		return err
	}
	at := procPath(fd)
	if e.Kind != layer.Symlink {
		if err := unix.Chmod(at, e.Mode); err != nil {
			return err
		}
	}
	if err := a.setXattrs(e, xattrs{
		list:   func(buf []byte) (int, error) { return unix.Listxattr(at, buf) },
		remove: func(name string) error { return unix.Removexattr(at, name) },
		set:    func(name string, value []byte) error { return unix.Setxattr(at, name, value, 0) },
	}); err != nil {
		return err
	}
	return setTimes(fd, times(e))
}

// isNew refuses an open file that is not as file makes one for e: of its type, the
// user's own, and without another name.
func (a *applier) isNew(fd int, e *layer.Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	kind, rdev := uint32(unix.S_IFLNK), uint64(0)
	if e.Kind != layer.Symlink {
		kind = nodes[e.Kind]
	}
	if e.Kind == layer.CharDevice || e.Kind == layer.BlockDevice {
		rdev = unix.Mkdev(e.Major, e.Minor)
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != rdev || st.Nlink > 1 || st.Uid != a.owner[0] {
		return errSwapped
	}
	return nil
}

// errSwapped is local: no other bytes of the layer would help.
var errSwapped = fmt.Errorf("another file was put in its place meanwhile: %w", unix.EPERM)

// chown gives e's file to its owner. Only root can, and in a user namespace only
// to whom it knows.
func (a *applier) chown(e *layer.Entry, chown func(uid, gid int) error) error {
	if a.super {
		err := chown(int(e.UID), int(e.GID))
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if a.owner != [2]uint32{e.UID, e.GID} {
		a.losses.Owners++
	}
	return nil
}

// xattrs are the calls on one file's extended attributes.
type xattrs struct {
	list   func(buf []byte) (int, error)
	remove func(name string) error
	set    func(name string, value []byte) error
}

// isHosts says whether an attribute is the host's business: no layer sets it,
// and none takes it away.
func isHosts(name string) bool { return name == "security.selinux" || name == "system.nfs4_acl" }

// setXattrs leaves the file with the extended attributes that e has.
func (a *applier) setXattrs(e *layer.Entry, x xattrs) error {
	if err := clearXattrs(e, x); err != nil {
		return err
	}
	for name, value := range e.Xattrs {
		if isHosts(name) {
			continue
		}
		err := x.set(name, []byte(value))
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			if a.losses.Xattrs == 0 {
				a.losses.Xattr = fmt.Sprintf("%s of %.200q: %v", name, e.Name, err)
			}
			a.losses.Xattrs++
			continue
		}
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// clearXattrs removes what the file has and e has not: an earlier layer's, or
// what a new file gets from its directory's default access list.
func clearXattrs(e *layer.Entry, x xattrs) error {
	n, err := x.list(nil)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil || n == 0 {
		return err
	}
	buf := make([]byte, n)
	if n, err = x.list(buf); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if _, has := e.Xattrs[name]; has || isHosts(name) {
			continue
		}
		if err := x.remove(name); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// times returns e's times as the kernel takes them; without one of access it is
// that of modification.
func times(e *layer.Entry) []unix.Timespec {
	atime := e.AccessTime
	if atime.IsZero() {
		atime = e.ModTime
	}
	return []unix.Timespec{timespec(atime), timespec(e.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// setTimes sets the times of the open file, which may be a link opened by O_PATH.
// Linux before 5.8 does it by name alone.
func setTimes(fd int, times []unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), times, 0)
	}
	return err
}
