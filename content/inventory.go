package content

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// size returns the bytes on disk of all that could be evicted. It remembers no names: a mount asks often.
func (s *Store) size() (n int64, err error) {
	err = s.inventory(func(c candidate) { n += c.size })
	return n, err
}

// inventory calls f with all that could be evicted, in no order.
func (s *Store) inventory(f func(candidate)) error {
	algs, err := os.ReadDir(s.path("blobs"))
	if err != nil {
		return err
	}
	for _, alg := range algs {
		if !alg.IsDir() {
			continue
		}
		err := eachFile(s.path("blobs", alg.Name()), func(name string, st *unix.Stat_t) {
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				f(candidate{alg: alg.Name(), name: name, size: onDisk(st), used: lastUse(st).UnixNano()})
			}
		})
		if err != nil {
			return err
		}
	}
	err = eachFile(s.path("bad"), func(name string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			f(candidate{name: name, bad: true, size: onDisk(st), used: lastUse(st).UnixNano()})
		}
	})
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	ingests, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		return err
	}
	for _, e := range ingests {
		if strings.HasPrefix(e.Name(), ".") {
			continue // Open removes it
		}
		c, err := s.ingestCandidate(e.Name())
		if errors.Is(err, iofs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // it ended meanwhile, or is not ours
		}
		if err != nil {
			return err
		}
		f(c)
	}
	return nil
}

// ingestCandidate returns the ingest name as what could be evicted. Its use is that of its data.
func (s *Store) ingestCandidate(name string) (candidate, error) {
	c := candidate{name: name}
	err := eachFile(s.path("ingest", name), func(file string, st *unix.Stat_t) {
		c.size += onDisk(st)
		if file == "data" || c.used == 0 {
			c.used = lastUse(st).UnixNano()
		}
	})
	return c, err
}

// eachFile calls f with the attributes of all that is in dir. What vanishes meanwhile is left out. For 100,000 files it takes
// half of the time of os.ReadDir and os.Lstat: nothing is sorted, and no path is looked up from the root.
func eachFile(dir string, f func(name string, st *unix.Stat_t)) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	fd := int(d.Fd())
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			var st unix.Stat_t
			switch err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
			case err == nil:
				f(name, &st)
			case !errors.Is(err, iofs.ErrNotExist):
				return &os.PathError{Op: "stat", Path: dir + "/" + name, Err: err}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// onDisk is what a file takes of the disk, in bytes: of a sparse file what was written.
func onDisk(st *unix.Stat_t) int64 { return st.Blocks * 512 }
