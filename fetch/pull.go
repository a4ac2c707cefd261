package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"distfs/content"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A pull is one object on its way in, shared by all who have it open in this
// process. Its driver runs while there is something to do; everything else is
// done by who asks.
type pull struct {
	f      *Fetcher
	key    pullKey
	loc    locator.Locator // whose repository is asked
	desc   ocispec.Descriptor
	remote Remote // nil offline
	wake   chan struct{}

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change that a reader may wait for
	users    int           // Objects that are open
	left     time.Time     // when the last of them closed
	driving  bool          // the driver runs
	released bool          // gone from the Fetcher
	known    bool          // the repository answered for the object
	sure     bool          // and told its size, or did so before
	vouched  bool          // bytes came with that size

	in       *content.Ingest // where the bytes go; nil before they are needed
	file     *os.File        // the blob, once it is whole
	verified bool            // the digest matched
	bad      error           // it did not
	hashing  bool            // a goroutine hashes
	syncing  bool            // a goroutine syncs
	served   bool            // bytes were handed out before the digest matched
	hashed   int64           // up to where this process hashed
	unsynced bool            // bytes arrived since the last sync

	uncommitted error // why the verified object is not in the store
	unkept      error // why bytes are served without being kept

	fill      bool // the whole is wanted, whoever reads
	halted    bool // a failure stopped the fill, until somebody asks again
	verifiers int  // who wait for the digest
	demands   []*demand
	cursors   []*cursor
	workers   map[*worker]bool
	rangeless bool    // the remote answers a range with everything
	streaming *worker // and who reads it
	foreign   bool    // another process fetches what is wanted here

	progress time.Time // when bytes last arrived, from whomever
	seen     int64     // chunks that were here then
	failures []failure
	direct   time.Time // until when bytes are served without being kept
	stash    []stashed // of these, what a read is about to take
	shown    []shown   // and what has been served
}

// A failure is remembered for a second: the kernel asks for a failed read-ahead
// again, page by page.
type failure struct {
	span
	err   error
	until time.Time
}

const failureMemory = time.Second

// A span is a run of chunks.
type span struct{ first, n int64 }

func (s span) end() int64 { return s.first + s.n }

func (s span) overlaps(o span) bool { return s.first < o.end() && o.first < s.end() }

// and is what s and o share.
func (s span) and(o span) span {
	first := max(s.first, o.first)
	return span{first, min(s.end(), o.end()) - first}
}

// chunksOf is the chunks that n bytes from off on touch.
func chunksOf(off, n int64) span {
	first := off / content.ChunkSize
	return span{first, (off+n-1)/content.ChunkSize - first + 1}
}

// offset is where chunk c begins; behind the last it is the object's end.
func (p *pull) offset(c int64) int64 { return min(c*content.ChunkSize, p.desc.Size) }

func (p *pull) chunks() int64 { return (p.desc.Size + content.ChunkSize - 1) / content.ChunkSize }

func (p *pull) everything() span { return span{0, p.chunks()} }

// The following want the lock.

func (p *pull) has(s span) bool { return p.file != nil || p.in != nil && p.in.Has(s.first, s.n) }

func (p *pull) whole() bool { return p.has(p.everything()) }

func (p *pull) wantsAll() bool { return p.fill && !p.halted || p.verifiers > 0 }

func (p *pull) serveDirect() bool { return time.Now().Before(p.direct) }

// pull returns the shared pull of desc, open once more.
// sure says that its size is not a manifest's word alone.
func (f *Fetcher) pull(loc locator.Locator, desc ocispec.Descriptor, sure bool) (*pull, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return nil, context.Canceled
	}
	key := pullKey{origin(loc), desc.Digest}
	if p := f.pulls[key]; p != nil {
		ok, err := p.join(desc.Size, sure)
		if ok || err != nil {
			return p, err
		}
		delete(f.pulls, key) // its readers find out themselves
	}
	p := &pull{
		f: f, key: key, loc: loc, desc: desc, users: 1, sure: sure,
		wake: make(chan struct{}, 1), changed: make(chan struct{}), workers: make(map[*worker]bool),
	}
	_, p.known = f.answered(loc, desc.Digest)
	if !f.opts.Offline {
		var err error
		if p.remote, err = f.remotes.of(loc.Host); err != nil {
			return nil, err
		}
	}
	if err := p.openBlob(); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	if p.file != nil {
		if info, err := p.file.Stat(); err != nil || info.Size() != desc.Size {
			p.file.Close()
			return nil, broken("%d bytes, and not %d as the store has it", desc.Size, info.Size())
		}
	}
	f.pulls[key] = p
	return p, nil
}

// join opens the pull once more. Of two sizes that are told of a digest one is
// wrong: who can be surer of his goes on, and false gives way.
func (p *pull) join(size int64, sure bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.desc.Size != size {
		if sure && !p.vouched && p.file == nil {
			return false, nil
		}
		return false, broken("%d bytes, and before %d", size, p.desc.Size)
	}
	p.users++
	p.halted = false
	p.sure = p.sure || sure
	return true, nil
}

func (p *pull) leave() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.users > 0 {
		return
	}
	p.left = time.Now()
	if p.driving {
		p.kick()
		return
	}
	p.forget()
}

// forget drops the pull where nobody has it open and nothing runs. The
// Fetcher's lock and the pull's are held.
func (p *pull) forget() {
	if p.users > 0 || p.driving || p.hashing || p.syncing || p.released {
		return
	}
	if p.f.pulls[p.key] == p {
		delete(p.f.pulls, p.key)
	}
	// Closing syncs what is not synced: not under these locks.
	p.released = true
	if !p.f.begin(p.closeFiles) {
		p.released = false // Close does it
	}
}

// release is what Close does with a pull that is left.
func (p *pull) release() {
	p.mu.Lock()
	released := p.released
	p.released = true
	p.mu.Unlock()
	if !released {
		p.closeFiles()
	}
}

func (p *pull) closeFiles() {
	if p.in != nil {
		p.in.Close()
	}
	if p.file != nil {
		p.file.Close()
	}
}

// openBlob looks for the whole object in the store.
func (p *pull) openBlob() error {
	file, err := p.f.store.Blob(p.desc.Digest)
	if err != nil {
		return err
	}
	p.file, p.verified = file, true
	return nil
}

// open opens the ingest where that was not done. The lock is held.
func (p *pull) open() error {
	if p.in != nil || p.file != nil {
		return nil
	}
	want := content.Expect{Ref: p.loc.String() + "@" + p.desc.Digest.String(), Digest: p.desc.Digest, Origin: p.key.origin, Total: p.desc.Size}
	in, err := p.f.store.Ingest(want)
	var conflict *content.ConflictError
	if errors.As(err, &conflict) && p.sure && p.remote != nil {
		// A digest has one size: what was begun with another one is worth nothing.
		p.f.opts.Log.Warn("begun anew", "origin", p.key.origin, "err", err)
		if err = p.f.store.Abort(want); err == nil {
			in, err = p.f.store.Ingest(want)
		}
	}
	if errors.Is(err, iofs.ErrExist) {
		return p.openBlob()
	}
	if err != nil {
		return err
	}
	p.in = in
	p.progress = time.Now()
	return nil
}

// announce wakes all who wait for a change. The lock is held.
func (p *pull) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// kick has the driver look again, and starts it where it does not run. The
// lock is held.
func (p *pull) kick() {
	if p.released {
		return
	}
	if !p.driving {
		p.driving = p.f.begin(p.drive)
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// fillAll has the whole object fetched, without waiting.
func (p *pull) fillAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil {
		return
	}
	if err := p.open(); err != nil {
		p.f.opts.Log.Warn("fetch not begun", "digest", p.desc.Digest, "err", err)
		return // the first read says so too
	}
	if p.file != nil || p.remote == nil && !p.whole() {
		return
	}
	p.fill, p.halted = true, false
	p.kick()
}

// failed returns why a part of s could not be had a moment ago.
func (p *pull) failed(s span) error {
	now := time.Now()
	kept := p.failures[:0]
	var err error
	for _, f := range p.failures {
		if now.After(f.until) {
			continue
		}
		kept = append(kept, f)
		if err == nil && f.overlaps(s) && !p.has(f.and(s)) {
			err = f.err
		}
	}
	p.failures = kept
	return err
}

// absent is the error of a range that is not here and that nobody is asked
// for.
func (p *pull) absent(off int64) error {
	return &kindError{fmt.Errorf("offline: byte %d is not in the store", off), syscall.ENETUNREACH}
}

// named says of what an error is. What leaves the package is named once, by
// the Object's methods.
func (p *pull) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s@%s: %w", p.loc, p.desc.Digest, err)
}

// here counts the chunks that the ingest has.
func (p *pull) here() int64 {
	n := p.chunks()
	for at := int64(0); at < p.chunks(); {
		first, absent := p.in.Missing(at, p.chunks()-at)
		if absent == 0 {
			break
		}
		n -= absent
		at = first + absent
	}
	return n
}
