package content

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes of lock files; below them are chunks.
const (
	ownByte       = 1 << 62     // of locks/<ingest name>: who hashes and commits; by key, the one writer
	structureByte = ownByte + 1 // of locks/<ingest name>: who makes, opens, commits or discards the ingest
)

const (
	lockPatience = 10 * time.Second
	maxLockPause = 20 * time.Millisecond
)

// A lockFile is a file of locks/ with an open file description of its own, which owns the locks taken through it (fcntl(2),
// "Open file description locks"): they exclude others in this process as in other ones, and end when it is closed.
type lockFile struct{ f *os.File }

// openLock opens the lock file name.
func (s *Store) openLock(name string) (*lockFile, error) {
	f, err := os.OpenFile(s.path("locks", name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &lockFile{f}, nil
}

// readLock opens a lock that is there, to share it.
func (s *Store) readLock(name string) (*lockFile, error) {
	f, err := os.Open(s.path("locks", name))
	if err != nil {
		return nil, err
	}
	return &lockFile{f}, nil
}

// close drops all locks. It unlocks first, for a child between fork and exec holds the open file description too.
func (l *lockFile) close() error {
	l.unlock(0, 0)
	return l.f.Close()
}

// try takes n bytes from first on, or none: then another holds some of them.
func (l *lockFile) try(first, n int64) (bool, error) {
	return l.set(unix.F_WRLCK, first, n)
}

// share takes n bytes from first on together with others who share them, or none: then another has taken some of them alone.
func (l *lockFile) share(first, n int64) (bool, error) {
	return l.set(unix.F_RDLCK, first, n)
}

func (l *lockFile) set(how int16, first, n int64) (bool, error) {
	err := l.fcntl(unix.F_OFD_SETLK, &unix.Flock_t{Type: how, Start: first, Len: n})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// wait takes the byte at, when whoever has it lets go. Only for what is held briefly: that a process stands still with it is an
// os.ErrDeadlineExceeded.
func (l *lockFile) wait(at int64) error {
	return patiently(func() (bool, error) { return l.try(at, 1) })
}

// patiently calls try until it has what another holds briefly.
func patiently(try func() (bool, error)) error {
	for began, d := time.Now(), time.Millisecond; ; d = min(2*d, maxLockPause) {
		ok, err := try()
		if ok || err != nil {
			return err
		}
		if time.Since(began) > lockPatience {
			return fmt.Errorf("another process holds it and does not move: %w", os.ErrDeadlineExceeded)
		}
		time.Sleep(d)
	}
}

// unlock lets go of n bytes from first on; n 0 means all from first on. What it can't let go of for want of memory ends with close.
func (l *lockFile) unlock(first, n int64) {
	_ = l.fcntl(unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: first, Len: n})
}

// held returns where, in the n bytes from first on, some run of bytes begins that another holds. It may begin before first,
// and need not be the lowest.
func (l *lockFile) held(first, n int64) (start int64, ok bool, err error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: first, Len: n}
	if err := l.fcntl(unix.F_OFD_GETLK, &lk); err != nil {
		return 0, false, err
	}
	return lk.Start, lk.Type != unix.F_UNLCK, nil
}

func (l *lockFile) fcntl(cmd int, lk *unix.Flock_t) error {
	lk.Whence = io.SeekStart
	for {
		err := unix.FcntlFlock(l.f.Fd(), cmd, lk)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "lock", Path: l.f.Name(), Err: err}
		}
	}
}
