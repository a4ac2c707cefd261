package content

import (
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

// Evicted is one blob or ingest that was evicted, or what was derived from them.
type Evicted struct {
	Digest  digest.Digest // empty: an ingest by key
	Ref     string        // of an ingest
	Partial bool          // an ingest, and no blob
	Bad     bool          // what was moved aside, and no blob
	Derived bool          // the index of the layer Digest, or the content of a file of a tree: in parts, if Partial
	Size    int64         // bytes on disk that it had
	Used    time.Time     // when it was last opened or written
}

// An Eviction is what Evict has done.
type Eviction struct {
	Count int
	Freed int64 // bytes on disk
	Size  int64 // bytes on disk of all that is left and that Evict could evict if nothing spared it
}

// Evict removes blobs and ingests as opts say, the least recently used first. It spares what somebody has open (Hold),
// what is pinned, and what is reachable from index.json or from a pin. If it can't look what that is, it evicts none of that.
//
// What CheckBlob moved aside goes before all, then what is derived: indexes of layers and contents of files, which nothing but
// Hold spares. Of these, files go before indexes that were used in the same minute.
//
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
		if _, ok := kept[c.digest()]; ok && c.kind != kindBad && !c.derived() {
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
	slices.SortFunc(found, compareCandidates)
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
	if c.kind == kindBad {
		return v.account(c, dgst)
	}
	if c.kind == kindIngest && strings.HasPrefix(c.name, keyPrefix) {
		return v.account(c, "")
	}
	if valid := dgst.Validate() == nil; !valid {
		return nil, nil // not ours
	}
	if c.derived() {
		return v.unheld(c, dgst)
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

// unheld evicts c, which nothing else keeps, if nobody has dgst open.
func (v *evictor) unheld(c *candidate, dgst digest.Digest) (*Evicted, error) {
	at := useByte(dgst)
	free, err := v.lockUse(at)
	if err != nil || !free {
		return nil, err
	}
	defer v.use.unlock(at, 1)
	return v.account(c, dgst)
}

// account removes c, of dgst if that is known, and counts what went.
func (v *evictor) account(c *candidate, dgst digest.Digest) (*Evicted, error) {
	went := &Evicted{
		Digest: dgst, Partial: c.kind == kindIngest, Bad: c.kind == kindBad, Derived: c.derived(), Size: c.size, Used: time.Unix(0, c.used),
	}
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
	if c.kind == kindIngest {
		return v.removeIngest(c, went)
	}
	path := v.s.path(c.dir, c.name)
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
