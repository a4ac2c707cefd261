package content

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// useLock is the lock file in which byte useByte(digest) is locked, shared, by who has that digest open.
const useLock = "use"

// touchAge is how old the last use of a blob on disk may be before it is written anew.
const touchAge = time.Minute

// useByte returns the byte of locks/use that stands for dgst, which must be valid: the first 62 bits of it. That two digests
// share a byte costs nothing: then both are spared.
func useByte(dgst digest.Digest) int64 {
	var n uint64
	for _, c := range []byte(dgst.Encoded()[:16]) {
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		n = n<<4 | uint64(c-'0')
	}
	return int64(n >> 2)
}

// uses are what a Store holds open. Its locks are one open file description's, which can't count: that is done here.
type uses struct {
	mu     sync.Mutex
	lock   *lockFile     // nil until something is held; guarded by mu
	held   map[int64]int // holders by byte; guarded by mu
	closed bool          // the Store is; guarded by mu
}

// Hold keeps dgst, its blob and its ingest from being evicted, by this process or another, until release is called; to call
// it again does nothing. Neither need be there: who wants to open a blob holds it first, and then it is there or was evicted.
// A digest that is held here already costs no call of the kernel. What is held can be deleted all the same.
func (s *Store) Hold(dgst digest.Digest) (release func(), err error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, err
	}
	at, began := useByte(dgst), time.Now()
	if err := patiently(func() (bool, error) { return s.uses.take(s, at) }); err != nil {
		return nil, fmt.Errorf("hold %s: %w", dgst, err)
	}
	return sync.OnceFunc(func() {
		if time.Since(began) > touchAge {
			touch(s.blobPath(dgst)) // it was in use until now
		}
		s.uses.drop(at)
	}), nil
}

// take counts one more holder of the byte at, and locks it for the first. It is false while it is being evicted.
func (u *uses) take(s *Store, at int64) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held[at] > 0 {
		u.held[at]++
		return true, nil
	}
	if u.lock == nil {
		lock, err := s.openLock(useLock)
		if errors.Is(err, syscall.EROFS) { // to share it needs no writing
			lock, err = s.readLock(useLock)
		}
		if err != nil {
			return false, err
		}
		u.lock, u.held = lock, make(map[int64]int)
	}
	if ok, err := u.lock.share(at, 1); err != nil || !ok {
		return false, err
	}
	u.held[at] = 1
	return true, nil
}

// drop counts one holder less, and unlocks the byte with the last.
func (u *uses) drop(at int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held[at]--; u.held[at] > 0 {
		return
	}
	delete(u.held, at)
	u.lock.unlock(at, 1)
	u.closeUnused()
}

// close lets the lock file go with the last holder.
func (u *uses) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.closeUnused()
}

func (u *uses) closeUnused() {
	if u.closed && u.lock != nil && len(u.held) == 0 {
		u.lock.close()
		u.lock = nil
	}
}

// touch makes now the last use of the file path: its atime, set explicitly, for many file systems are mounted not to.
// That it can't be set makes the file leave earlier, and is no reason not to read it.
func touch(path string) {
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{now, {Nsec: unix.UTIME_OMIT}}, unix.AT_SYMLINK_NOFOLLOW)
}

// used touches the file path whose attributes are st, unless its last use was less than a minute ago.
func used(path string, st *unix.Stat_t) {
	if time.Since(lastUse(st)) > touchAge {
		touch(path)
	}
}

// lastUse returns when the file was last opened, or written, which the atime doesn't show.
func lastUse(st *unix.Stat_t) time.Time {
	atime, mtime := time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())
	if mtime.After(atime) {
		return mtime
	}
	return atime
}
