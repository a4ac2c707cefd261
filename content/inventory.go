package content

import (
	"cmp"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A candidate is what could be evicted.
type candidate struct {
	kind kind
	dir  string // below the store's
	name string // in dir
	size int64
	used int64 // in nanoseconds since the epoch
}

// A kind is what a candidate is.
type kind byte

// The kinds, in the order in which those that were used at the same time go.
const (
	kindBad kind = iota // it was moved aside: nobody reads it
	kindFile
	kindIndex
	kindIngest
	kindBlob
)

// derived says whether c can be made again of what was fetched: it goes before what was.
func (c *candidate) derived() bool {
	return c.kind == kindFile || c.kind == kindIndex || c.kind == kindIngest && isDerived(c.name)
}

// compareCandidates is negative if a goes before b.
func compareCandidates(a, b candidate) int {
	if order := cmp.Compare(a.rank(), b.rank()); order != 0 {
		return order
	}
	if a.derived() {
		const minute = int64(touchAge) // use is not told more exactly
		return cmp.Or(cmp.Compare(a.used/minute, b.used/minute), cmp.Compare(a.kind, b.kind), cmp.Compare(a.used, b.used))
	}
	return cmp.Compare(a.used, b.used)
}

// rank is lower of what goes first, whenever it was used.
func (c *candidate) rank() int {
	switch {
	case c.kind == kindBad:
		return 0
	case c.derived():
		return 1
	}
	return 2
}

// digest returns the digest by which c is spared. Of an ingest by key it is none that is valid.
func (c *candidate) digest() digest.Digest {
	switch c.kind {
	case kindBlob, kindFile:
		return digest.Digest(filepath.Base(c.dir) + ":" + c.name)
	case kindIndex:
		return namedDigest(strings.TrimSuffix(c.name, indexSuffix))
	}
	return ingestDigest(c.name)
}

// A Usage is what of one kind a store has.
type Usage struct {
	Kind  string // blobs, ingests; files and indexes, made of layers for trees; bad
	Count int
	Size  int64 // bytes on disk
}

// Usage returns what the store has by kind, of each kind, and what is not there as 0.
func (s *Store) Usage() ([]Usage, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	all := []Usage{kindBlob: {Kind: "blobs"}, kindIngest: {Kind: "ingests"}, kindFile: {Kind: "files"}, kindIndex: {Kind: "indexes"}, kindBad: {Kind: "bad"}}
	err := s.inventory(func(c candidate) {
		all[c.kind].Count++
		all[c.kind].Size += c.size
	})
	slices.Reverse(all)
	return all, err
}

// size returns the bytes on disk of all that could be evicted. It remembers no names: a mount asks often.
func (s *Store) size() (n int64, err error) {
	err = s.inventory(func(c candidate) { n += c.size })
	return n, err
}

// inventory calls f with all that could be evicted, in no order.
func (s *Store) inventory(f func(candidate)) error {
	err := s.byAlgorithm("blobs", kindBlob, f)
	if err != nil {
		return err
	}
	for _, dir := range []string{"cache/files", "cache/streams"} {
		if err := s.byBoot(dir, kindFile, f); err != nil {
			return err
		}
	}
	if err := s.filesIn("cache/index", kindIndex, f); err != nil {
		return err
	}
	if err := s.filesIn("bad", kindBad, f); err != nil {
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

// byBoot calls f with the files of each boot in dir.
func (s *Store) byBoot(dir string, k kind, f func(candidate)) error {
	boots, err := readDir(s.path(dir))
	for _, boot := range boots {
		if err == nil {
			err = s.byAlgorithm(filepath.Join(dir, boot.Name()), k, f)
		}
	}
	return err
}

// byAlgorithm calls f with the files in the directories of dir, which are named after algorithms.
func (s *Store) byAlgorithm(dir string, k kind, f func(candidate)) error {
	algs, err := readDir(s.path(dir))
	if err != nil {
		return err
	}
	for _, alg := range algs {
		if !alg.IsDir() {
			continue
		}
		if err := s.filesIn(filepath.Join(dir, alg.Name()), k, f); err != nil {
			return err
		}
	}
	return nil
}

// filesIn calls f with the files in dir, which need not be there.
func (s *Store) filesIn(dir string, k kind, f func(candidate)) error {
	err := eachFile(s.path(dir), func(name string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			f(candidate{kind: k, dir: dir, name: name, size: onDisk(st), used: lastUse(st).UnixNano()})
		}
	})
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	return err
}

// ingestCandidate returns the ingest name as what could be evicted. Its use is that of its data.
func (s *Store) ingestCandidate(name string) (candidate, error) {
	c := candidate{kind: kindIngest, dir: "ingest", name: name}
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
