package content

import (
	"cmp"
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// evictLock is the lock file of who evicts, and of who must not have something evicted just then.
const evictLock = "evict"

// Its bytes.
const (
	evictByte  = iota // who evicts
	removeByte        // who removes one blob, from when it is seen that nothing keeps it; and, to await that, who pins
)

// ErrEvicting is the kind of error of Evict while another evicts, in this process or another.
var ErrEvicting = errors.New("another process is evicting")

// EvictOptions say what is to go. The zero value evicts nothing.
type EvictOptions struct {
	MaxSize   int64         // evict until the store has at most so many bytes; 0: no limit; negative: keep none
	OlderThan time.Duration // evict only what was not used for so long, all of it where nothing else is said; 0: of any age
	Free      int64         // evict so many bytes in any case
	DryRun    bool          // only say what would be evicted

	// Each is called after each eviction, if it isn't nil. Its error ends Evict, and is Evict's.
	Each func(Evicted) error
}

// Evicted is one blob or ingest that was evicted.
type Evicted struct {
	Digest  digest.Digest // empty: an ingest by key
	Ref     string        // of an ingest
	Partial bool          // an ingest, and no blob
	Bad     bool          // what was moved aside, and no blob
	Size    int64         // bytes on disk that it had
	Used    time.Time     // when it was last opened or written
}

// An Eviction is what Evict has done.
type Eviction struct {
	Count int
	Freed int64 // bytes on disk
	Size  int64 // bytes on disk of the blobs and ingests that are left, and of what was moved aside
}

// Evict removes blobs and ingests as opts say, the least recently used first. It spares what somebody has open (Hold),
// what is pinned, and what is reachable from index.json or from a pin. What CheckBlob moved aside goes before all. If it can't look what that is, it evicts nothing.
// What it removes is unlinked and no more; records of repositories stay. Sizes are those on disk.
//
// Only one evicts at a time: the error is ErrEvicting for another. One that was killed leaves nothing that matters.
func (s *Store) Evict(opts EvictOptions) (Eviction, error) {
	l := limits{high: math.MaxInt64, free: opts.Free, dry: opts.DryRun, each: opts.Each}
	if opts.MaxSize != 0 {
		l.high = max(opts.MaxSize, 0)
	}
	if opts.OlderThan > 0 {
		l.before = time.Now().Add(-opts.OlderThan)
		if opts.MaxSize == 0 && opts.Free == 0 {
			l.high = 0
		}
	}
	l.low = l.high
	return s.evict(l)
}

// KeptSize returns the bytes on disk of the blobs and ingests that Kept names.
func (s *Store) KeptSize() (n int64, err error) {
	kept, err := s.Kept()
	if err != nil || len(kept) == 0 {
		return 0, err
	}
	err = s.inventory(func(c candidate) {
		if _, ok := kept[c.digest()]; ok && !c.bad {
			n += c.size
		}
	})
	return n, err
}

// limits are EvictOptions for whom a store that is larger than high is to be as small as low.
type limits struct {
	high, low int64
	free      int64
	before    time.Time // what was used since stays; zero: nothing stays for that
	dry       bool
	each      func(Evicted) error
}

func (s *Store) evict(l limits) (Eviction, error) {
	if err := s.check(); err != nil {
		return Eviction{}, err
	}
	guard, err := s.openLock(evictLock)
	if err != nil {
		return Eviction{}, err
	}
	defer guard.close()
	if ok, err := guard.try(evictByte, 1); err != nil {
		return Eviction{}, err
	} else if !ok {
		return Eviction{}, fmt.Errorf("store %s: %w", s.dir, ErrEvicting)
	}
	size, err := s.size()
	if err != nil {
		return Eviction{}, err
	}
	if l.free > 0 {
		l.high = min(l.high, max(size-l.free, 0))
		l.low = min(l.low, l.high)
	}
	if size <= l.high {
		return Eviction{Size: size}, nil
	}
	return s.evictDown(guard, l)
}

// evictDown looks again at what there is, and evicts.
func (s *Store) evictDown(guard *lockFile, l limits) (Eviction, error) {
	v := evictor{s: s, l: l, guard: guard, keeps: keeps{s: s}}
	var found []candidate
	err := s.inventory(func(c candidate) {
		v.done.Size += c.size
		found = append(found, c)
	})
	if err != nil {
		return Eviction{}, err
	}
	return v.run(found)
}

// A candidate is what could be evicted.
type candidate struct {
	alg  string // of a blob; empty: an ingest, or what is bad
	name string // in its directory
	bad  bool   // it was moved aside: nobody reads it, and it goes first
	size int64
	used int64 // in nanoseconds since the epoch
}

func (c *candidate) digest() digest.Digest {
	if c.alg != "" {
		return digest.Digest(c.alg + ":" + c.name)
	}
	return ingestDigest(c.name)
}

// An evictor is one run of Evict.
type evictor struct {
	s     *Store
	l     limits
	keeps keeps
	guard *lockFile // locks/evict
	use   *lockFile // not the Store's own, which has what is open here
	done  Eviction
}

// run evicts of found what is to go, and returns the first error but goes on past it.
func (v *evictor) run(found []candidate) (Eviction, error) {
	slices.SortFunc(found, func(a, b candidate) int {
		switch {
		case a.bad && !b.bad:
			return -1
		case b.bad && !a.bad:
			return 1
		}
		return cmp.Compare(a.used, b.used)
	})
	before := int64(math.MaxInt64)
	if !v.l.before.IsZero() {
		before = v.l.before.UnixNano()
	}
	var failed error
	for i := range found {
		c := &found[i]
		if v.done.Size <= v.l.low {
			break
		}
		if c.used >= before {
			continue
		}
		if v.use == nil {
			var err error
			if v.use, err = v.s.openLock(useLock); err != nil {
				return v.done, err
			}
			defer v.use.close()
		}
		went, err := v.one(c)
		if went != nil && v.l.each != nil {
			if err := v.l.each(*went); err != nil {
				return v.done, err
			}
		}
		if errors.Is(err, errUnknownKeeps) {
			return v.done, err
		}
		if failed == nil {
			failed = err
		}
	}
	return v.done, failed
}

// errUnknownKeeps is the kind of error of not knowing what is to be spared.
var errUnknownKeeps = errors.New("nothing is evicted while it isn't known what must stay")

// maxLooks is how often it is looked anew what is kept, for one candidate.
const maxLooks = 10

// one evicts c unless it is to be spared, and returns what went.
func (v *evictor) one(c *candidate) (*Evicted, error) {
	dgst := c.digest()
	if c.bad {
		return v.account(c, dgst)
	}
	if c.alg == "" && strings.HasPrefix(c.name, keyPrefix) {
		return v.account(c, "")
	}
	if valid := dgst.Validate() == nil; !valid {
		return nil, nil // not ours
	}
	for range maxLooks {
		went, stale, err := v.unused(c, dgst)
		if !stale {
			return went, err
		}
		if err := v.keeps.look(); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnknownKeeps, err)
		}
	}
	return nil, nil // it changes all the time: spared
}

// unused evicts c if nobody has dgst open and nothing keeps it. Meanwhile others wait who want to open it, and those who pin:
// what takes time is not done here. It is stale if it must be looked anew what is kept.
func (v *evictor) unused(c *candidate, dgst digest.Digest) (went *Evicted, stale bool, err error) {
	if !v.l.dry {
		if err := v.guard.wait(removeByte); err != nil {
			return nil, false, fmt.Errorf("%w: %w", errUnknownKeeps, err)
		}
		defer v.guard.unlock(removeByte, 1)
	}
	at := useByte(dgst)
	free, err := v.lockUse(at)
	if err != nil || !free {
		return nil, false, err
	}
	defer v.use.unlock(at, 1)
	stale, err = v.keeps.stale()
	kept := !stale && v.keeps.has(dgst)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errUnknownKeeps, err)
	}
	if stale || kept {
		return nil, stale, nil
	}
	went, err = v.account(c, dgst)
	return went, false, err
}

// account removes c, of dgst if that is known, and counts what went.
func (v *evictor) account(c *candidate, dgst digest.Digest) (*Evicted, error) {
	went := &Evicted{Digest: dgst, Partial: c.alg == "" && !c.bad, Bad: c.bad, Size: c.size, Used: time.Unix(0, c.used)}
	gone, err := v.remove(c, went)
	if errors.Is(err, iofs.ErrNotExist) {
		v.done.Size -= c.size // another deleted it
		return nil, nil
	}
	if err != nil || !gone {
		return nil, err
	}
	v.done.Count++
	v.done.Freed += c.size
	v.done.Size -= c.size
	return went, nil
}

// lockUse takes the byte at of locks/use alone if nobody has its digest open; in a dry run it looks whether somebody has.
func (v *evictor) lockUse(at int64) (bool, error) {
	if !v.l.dry {
		return v.use.try(at, 1)
	}
	_, held, err := v.use.held(at, 1)
	return err == nil && !held, err
}

// remove unlinks c, unless it was used since it was found.
func (v *evictor) remove(c *candidate, went *Evicted) (bool, error) {
	path := v.s.path("blobs", c.alg, c.name)
	switch {
	case c.bad:
		path = v.s.path("bad", c.name)
	case c.alg == "":
		return v.removeIngest(c, went)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if lastUse(&st).UnixNano() > c.used {
		return false, nil
	}
	if v.l.dry {
		return true, nil
	}
	return true, os.Remove(path)
}

// removeIngest throws an ingest away that nobody has open.
func (v *evictor) removeIngest(c *candidate, went *Evicted) (bool, error) {
	x, err := readExpect(v.s.path("ingest", c.name), c.name)
	if err == nil {
		went.Ref = x.expect().Ref
	}
	lock, err := v.s.openLock(c.name)
	if err != nil {
		return false, err
	}
	defer lock.close()
	// All its bytes: a claim, its writer, its structure. In a dry run nothing is held up by that for long.
	if ok, err := lock.try(0, structureByte+1); err != nil || !ok {
		return false, err
	}
	now, err := v.s.ingestCandidate(c.name)
	if err != nil || now.used > c.used {
		return false, err
	}
	if v.l.dry {
		return true, nil
	}
	return true, v.s.retire(c.name, Discarded)
}
