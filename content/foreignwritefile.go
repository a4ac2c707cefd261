package content

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReplaceFile has write write a file that is for other programs, and puts it in the place of what is at path once it is whole and
// on disk. Others may read it, as far as the umask lets them. The error names the directory where that is what cannot be opened.
func ReplaceFile(path string, write func(io.Writer) error) error {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return replaceIn(dir, filepath.Base(path), 0o666, write)
}

// replaceIn is ReplaceFile in a directory that is open: nothing goes by its path, which another may give to something else.
func replaceIn(dir *os.File, name string, perm uint32, write func(io.Writer) error) error {
	f, err := newAside(dir, name, perm)
	if err != nil {
		return err
	}
	return f.replace(name, write)
}

// asidePrefix is what a file begins with that is about to take another's place, or is being written where the file system knows
// none without a name.
const asidePrefix = ".distfs-"

func isAside(name string) bool { return strings.HasPrefix(name, asidePrefix) }

// An aside is a file that has no name yet, or one that nobody looks for. As long as it is open it is locked, by which
// sweepAsides knows that it is in use.
type aside struct {
	*os.File
	dir  *os.File
	name string // "" none, or in dir
}

// newAside makes a file in dir, which errors call by the name that it is to have. One without a name leaves nothing behind if this
// process dies.
func newAside(dir *os.File, name string, perm uint32) (*aside, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, perm)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT) {
		return newNamedAside(dir, name, perm)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	f := &aside{os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), dir, ""}
	_ = tryLock(f.File) // nobody else knows it; without locks nothing is swept
	return f, nil
}

func newNamedAside(dir *os.File, as string, perm uint32) (*aside, error) {
	for {
		name := asideName()
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, perm)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
		}
		f := &aside{os.NewFile(uintptr(fd), filepath.Join(dir.Name(), as)), dir, name}
		taken := errors.Is(tryLock(f.File), unix.EWOULDBLOCK)
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if err == nil && !taken && st.Nlink > 0 {
			return f, nil
		}
		_ = f.close()
		if err != nil {
			return nil, err
		}
		// It was swept before it was locked.
	}
}

func asideName() string { return asidePrefix + strconv.FormatUint(rand.Uint64(), 36) }

func tryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// replace has write write it, puts it in the place of name, and closes it.
func (f *aside) replace(name string, write func(io.Writer) error) error {
	err := write(f.File)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.become(name)
	}
	if err := errors.Join(err, f.close()); err != nil {
		return err
	}
	return f.dir.Sync()
}

// become gives it its name, in the place of what has it.
func (f *aside) become(name string) error {
	at := int(f.dir.Fd())
	if f.name == "" {
		from := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
		err := unix.Linkat(unix.AT_FDCWD, from, at, name, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		temp := asideName()
		if err := unix.Linkat(unix.AT_FDCWD, from, at, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
			return err
		}
		f.name = temp
	}
	if err := unix.Renameat(at, f.name, at, name); err != nil {
		return err
	}
	f.name = ""
	return nil
}

// close closes it, and takes away a name that is not its own.
func (f *aside) close() (err error) {
	if f.name != "" {
		err = unix.Unlinkat(int(f.dir.Fd()), f.name, 0)
	}
	return errors.Join(err, f.Close())
}

// sweepAsides takes away the files of those that died. What cannot be taken away stays.
func sweepAsides(dir *os.File) {
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if isAside(name) {
				sweepAside(dir, name)
			}
		}
		if err != nil {
			return
		}
	}
}

func sweepAside(dir *os.File, name string) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && tryLock(f) == nil {
		_ = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
}
