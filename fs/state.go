package fs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Each mount has a file in the state directory, named after its device number
// and locked by the process that serves it. So a mount with a file that nobody
// has locked is a dead one of ours, and that can be told without touching it.

// defaultStateDir is under /run: /run/distfs for root, for others in their own
// directory there.
func defaultStateDir() string {
	uid := strconv.Itoa(os.Geteuid())
	for _, dir := range []string{"/run", os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + uid} {
		if dir != "" && unix.Access(dir, unix.W_OK) == nil {
			return filepath.Join(dir, fsName)
		}
	}
	return filepath.Join(os.TempDir(), fsName+"-"+uid)
}

// lockState keeps other processes from mounting until unlock. It makes the
// state directory, which must be the user's own.
func lockState(dir string) (unlock func(), err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, iofs.ErrExist) {
		return nil, fmt.Errorf("what is mounted is noted in /run, $XDG_RUNTIME_DIR, /run/user/UID or $TMPDIR, one of which must be there for this user to write to: %w", err)
	}
	if err := checkState(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// checkState refuses a state directory in which others may leave word.
func checkState(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: not a directory that only its owner, this user, can write to", dir)
	}
	return nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func statePath(dir string, m mountInfo) string {
	return filepath.Join(dir, "mount-"+strings.ReplaceAll(m.dev, ":", "-"))
}

// An announcement says that this process serves a mount, as long as its file
// is open.
type announcement struct{ file *os.File }

// announce is called with the state locked. If there is a file for m already,
// it is of an earlier mount of that number, whose process may not have taken it
// back yet.
func announce(dir string, m mountInfo) (*announcement, error) {
	path := statePath(dir, m)
	if err := os.Remove(path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	a := &announcement{f}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		a.withdraw()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := fmt.Fprintf(f, "%d %s\n", os.Getpid(), m.point); err != nil {
		a.withdraw()
		return nil, err
	}
	return a, nil
}

// stands says whether nobody has announced another mount in its place.
func (a *announcement) stands() bool {
	ours, err := a.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(a.file.Name())
	return err == nil && os.SameFile(ours, there)
}

// withdraw is called with the state locked.
func (a *announcement) withdraw() {
	if a.stands() {
		os.Remove(a.file.Name())
	}
	a.file.Close()
}

// owner says whether m was served by this user, and the process that serves it
// now, 0 if there is none.
func owner(dir string, m mountInfo) (pid int, known bool, err error) {
	err = checkState(dir)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(statePath(dir, m), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	switch err := flock(f, unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, true, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return 0, true, err
	}
	b := make([]byte, 32)
	n, _ := f.Read(b)
	number, _, _ := strings.Cut(string(b[:n]), " ")
	pid, err = strconv.Atoi(number)
	if err != nil {
		pid = -1
	}
	return pid, true, nil
}

// clearDead takes dead mounts of ours away from point. Over another file
// system it is mounted as over a directory; where a distfs lives, or may live,
// it is not.
func clearDead(point, stateDir string) error {
	for {
		m, err := topmost(point)
		if errors.Is(err, iofs.ErrNotExist) || err == nil && m.fsType != fsType {
			return nil
		}
		if err != nil {
			return err
		}
		pid, known, err := owner(stateDir, m)
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("there is a mount of distfs already, of which %s knows nothing: unmount it first: %w", stateDir, unix.EBUSY)
		case pid != 0:
			return fmt.Errorf("process %d has distfs mounted there: %w", pid, unix.EBUSY)
		}
		if err := detach(point, true); err != nil {
			return fmt.Errorf("unmount what a killed distfs left: %w", err)
		}
		os.Remove(statePath(stateDir, m))
	}
}

// IsMounted says why not, if what is mounted at dir is not a distfs, dead or
// alive. The error is fs.ErrNotExist if nothing is.
func IsMounted(dir string) error {
	_, err := mountedAt(dir)
	return err
}

func mountedAt(dir string) (mountInfo, error) {
	point, err := resolve(dir)
	if err != nil {
		return mountInfo{}, err
	}
	m, err := topmost(point)
	if err == nil && m.fsType != fsType {
		err = fmt.Errorf("%s: %s is mounted there, not distfs", point, m.fsType)
	}
	return m, err
}

// Unmount takes a mount of distfs away from dir, a dead one too. One that is
// in use it leaves, with an error that says so (for root, syscall.EBUSY). It
// waits, but not longer than that, for the process that served it to end, which
// gives the store back. The error is a *ServesOnError, of a mount that is gone
// from dir, if that process did not end; without a wait that is not asked.
func Unmount(dir string, wait time.Duration) error {
	m, err := mountedAt(dir)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	point := m.point
	pid, known, err := owner(defaultStateDir(), m)
	dead := err == nil && known && pid == 0
	served := openProcess(pid) // before another one can have its number
	defer served.close()
	err = detach(point, dead)
	switch {
	case errors.Is(err, unix.EBUSY) && pid > 0:
		return fmt.Errorf("unmount %s: it is in use: %w; fuser -vm tells by whom; SIGTERM to process %d detaches it", point, err, pid)
	case err != nil:
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	if dead {
		os.Remove(statePath(defaultStateDir(), m))
	}
	if wait == 0 || served < 0 {
		return nil
	}
	on := &ServesOnError{Point: point, PID: pid, At: pointsOf(m.dev)}
	if len(on.At) == 0 && served.await(wait) {
		return nil
	}
	return on
}

// pointsOf are where a file system is mounted, as far as this process sees.
func pointsOf(dev string) []string {
	mounts, err := readMounts()
	if err != nil {
		return nil
	}
	var points []string
	for _, m := range mounts {
		if m.dev == dev {
			points = append(points, m.point)
		}
	}
	return points
}

// A ServesOnError says that a mount is gone from one place, and that its process serves
// it elsewhere: an overlay has what it was mounted from for itself, and a container a copy.
type ServesOnError struct {
	Point string
	PID   int
	At    []string // where else this process sees the mount
}

func (e *ServesOnError) Error() string {
	where := "an overlay that was mounted from it, or a container, has it in use, or it has yet to give the store back"
	if len(e.At) > 0 {
		where = "it is mounted at " + strings.Join(e.At, ", ") + " too"
	}
	return fmt.Sprintf("%s is unmounted, but process %d goes on: %s", e.Point, e.PID, where)
}
