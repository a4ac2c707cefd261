package content

import (
	"errors"
	iofs "io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// keeps are what Kept says, and what shows that it says so still. To look what is kept can take long, and is done while nothing
// is locked but the right to evict; to see whether that is stale takes no time.
type keeps struct {
	s     *Store
	index unix.Stat_t   // whoever changes index.json replaces it
	pins  unix.Timespec // mtime of pins/: lookedAt, or 0 where there is none
	found map[digest.Digest]struct{}
	known bool
}

// lookedAt is the mtime, in seconds, that pins/ gets when it is looked at. A pin that comes or goes changes it, however coarse the clock of the
// file system is. Only one evicts at a time.
const lookedAt = 1e9

// look looks what is kept.
func (k *keeps) look() (err error) {
	k.known = false
	// Before: what comes meanwhile makes it stale.
	pins := k.s.path("pins")
	k.pins = unix.Timespec{Sec: lookedAt}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, pins, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, k.pins}, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, iofs.ErrNotExist) {
		k.pins = unix.Timespec{}
	} else if err != nil {
		return &os.PathError{Op: "utimensat", Path: pins, Err: err}
	}
	if k.index, err = statOrNone(k.s.path(ocispec.ImageIndexFile)); err != nil {
		return err
	}
	if k.found, err = k.s.Kept(); err != nil {
		return err
	}
	k.known = true
	return nil
}

// stale says whether it must be looked at again before has says anything.
func (k *keeps) stale() (bool, error) {
	if !k.known {
		return true, nil
	}
	index, err := statOrNone(k.s.path(ocispec.ImageIndexFile))
	if err != nil {
		return true, err
	}
	pins, err := statOrNone(k.s.path("pins"))
	return pins.Mtim != k.pins || !sameStat(&index, &k.index), err
}

// has says whether dgst was kept when it was last looked at.
func (k *keeps) has(dgst digest.Digest) bool {
	_, ok := k.found[dgst]
	return ok
}

// statOrNone returns the attributes of path, none if it is not there.
func statOrNone(path string) (st unix.Stat_t, err error) {
	if err := unix.Lstat(path, &st); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return st, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st, nil
}

func sameStat(a, b *unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Size == b.Size && a.Ctim == b.Ctim
}
