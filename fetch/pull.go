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
	f       *Fetcher
	key     pullKey
	loc     locator.Locator // whose repository is asked
	remote  getter          // nil offline
	source  *layerFile      // the remote of a layer's file; nil of what the repository has itself
	lane    string          // whose connections it takes, for the limits
	desc    ocispec.Descriptor
	wake    chan struct{}
	began   time.Time
	meter   meter
	story   story
	loading shared[struct{}] // of a small file

	mu       sync.Mutex
	changed  chan struct{}      // closed and replaced at every change that a reader may wait for
	users    int                // Objects that are open
	left     time.Time          // when the last of them closed
	driving  bool               // the driver runs
	released bool               // gone from the Fetcher
	known    bool               // the repository answered for the object
	sure     bool               // and told its size, or did so before
	vouched  bool               // bytes came with that size
	byURLs   ocispec.Descriptor // desc, as a manifest names it that says where else it lies

	in         *content.Ingest // where the bytes go; nil before they are needed
	opening    bool            // a goroutine opens it
	openErr    error           // why that failed
	unopened   time.Time       // until when it is not tried again
	file       *os.File        // the blob, once it is whole
	unhold     func()          // lets both be evicted
	verified   bool            // the digest matched
	bad        error           // it did not
	hashing    bool            // a goroutine hashes
	syncing    bool            // a goroutine syncs
	discarding int             // goroutines that throw the bytes away
	served     bool            // bytes were handed out before the digest matched
	hashed     int64           // up to where this process hashed
	unsynced   bool            // bytes arrived since the last sync

	uncommitted error // why the verified object is not in the store

	fill      bool // the whole is wanted, whoever reads
	halted    bool // a failure stopped the fill, until somebody asks again
	verifiers int  // who wait for the digest
	demands   []*demand
	cursors   []*cursor
	workers   map[*worker]bool
	rangeless bool    // the remote answers a range with everything
	streaming *worker // and who reads it
	foreign   bool    // another process fetches what is wanted here
	refused   bool    // the host has as many connections as it may

	progress time.Time // when bytes last arrived, from whomever
	seen     int64     // chunks that were here then
	failures []failure

	senders map[string]bool // of the remote's sources, whose bytes are here

	unkept      error         // why bytes are served without being kept
	unkeptUntil time.Time     // for how long they are
	shown       map[int64]sum // the chunks that were served so
	pass        pass          // has a lock of its own
	passing     bool          // a goroutine passes over the whole
	passErr     error         // why that failed
	unpassed    time.Time     // until when it is not tried again
	sums        []sum         // of every chunk, once a pass matched the digest
}

// A failure is remembered for a moment: the kernel asks for a failed read-ahead
// again, page by page.
type failure struct {
	span
	err   error
	until time.Time
}

const (
	failureMemory = 250 * time.Millisecond
	restFor       = time.Second // after a failure of the store, or of all of an object, which costs more to try
)

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

// working says whether a goroutine beside the driver and the workers runs.
func (p *pull) working() bool {
	return p.hashing || p.syncing || p.opening || p.passing || p.discarding > 0
}

func (p *pull) wantsAll() bool { return p.fill && !p.halted || p.verifiers > 0 }

// pull returns the shared pull of desc, open once more.
// sure says that its size is not a manifest's word alone.
func (f *Fetcher) pull(loc locator.Locator, desc ocispec.Descriptor, sure bool) (*pull, error) {
	// What reads files comes before the lock, which every Open takes.
	p := &pull{f: f, key: pullKey{f.origin(loc, desc), desc.Digest}, loc: loc, lane: loc.Host, desc: desc, sure: sure}
	if !f.opts.Offline {
		remote, err := f.remotes.of(loc.Host)
		if err != nil {
			return nil, err
		}
		p.remote = remote
	}
	_, p.known = f.answered(loc, desc.Digest)
	return f.share(p)
}

// share returns the pull of p's key, open once more: p itself where there is none.
// p may have its file already.
func (f *Fetcher) share(p *pull) (*pull, error) {
	unhold, err := f.store.Hold(p.desc.Digest) // before the look whether it is there
	if err != nil {
		return nil, err
	}
	defer func() { unhold() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return nil, context.Canceled
	}
	if open := f.pulls[p.key]; open != nil {
		ok, err := open.join(p)
		if ok || err != nil {
			return open, err
		}
		f.part(open) // its readers find out themselves
	}
	if p.file == nil {
		if err := p.openStored(); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return nil, err
		}
	}
	if p.file != nil {
		info, err := p.file.Stat()
		if err == nil && info.Size() != p.desc.Size {
			err = broken("%d bytes, and not %d as the store has it", p.desc.Size, info.Size())
		}
		if err != nil {
			p.file.Close()
			return nil, err
		}
	}
	p.users, p.began, p.wake, p.changed, p.workers = 1, time.Now(), make(chan struct{}, 1), make(chan struct{}), make(map[*worker]bool)
	p.learn(p.desc)
	p.unhold, unhold = unhold, func() {}
	f.pulls[p.key] = p
	return p, nil
}

// part has nobody find p any more. The Fetcher's lock is held.
func (f *Fetcher) part(p *pull) {
	if f.pulls[p.key] == p {
		delete(f.pulls, p.key)
		f.gone[p] = true
	}
}

// join opens the pull once more, as o would be, but not one of wrong bytes. Of two sizes that are told of
// a digest one is wrong: who can be surer of his goes on, and false gives way.
func (p *pull) join(o *pull) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil {
		return false, nil
	}
	if size := o.desc.Size; p.desc.Size != size {
		if o.sure && !p.vouched && p.file == nil {
			return false, nil
		}
		return false, broken("%d bytes, and before %d", size, p.desc.Size)
	}
	p.users++
	p.halted = false
	p.sure = p.sure || o.sure
	p.learn(o.desc)
	if p.derived() {
		p.source.replace(o.source)
	}
	return true, nil
}

// learn takes note of where else desc lies. The lock is held.
func (p *pull) learn(desc ocispec.Descriptor) {
	if isForeign(desc) && !isForeign(p.byURLs) {
		p.byURLs = desc
	}
}

// get asks the remote for n bytes from off on.
func (p *pull) get(ctx context.Context, off, n int64) (*Body, error) {
	p.mu.Lock()
	desc := p.desc
	if isForeign(p.byURLs) {
		desc = p.byURLs
	}
	p.mu.Unlock()
	return p.remote.Get(ctx, p.loc, desc, off, n)
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
	if p.users > 0 || p.driving || p.working() || p.released {
		return
	}
	p.f.part(p)
	// Closing syncs what is not synced: not under these locks.
	p.released = p.f.begin(p.closeFiles)
	if p.released { // else Close does it
		delete(p.f.gone, p)
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
	p.f.loose.drop(p)
	if p.in != nil {
		p.in.Close()
	}
	if p.file != nil {
		p.file.Close()
	}
	p.unhold()
}

// stored opens the whole object in the store.
func (p *pull) stored() (*os.File, error) {
	if p.derived() {
		return p.f.storedFile(p.loc, p.desc.Digest)
	}
	return p.f.store.Blob(p.desc.Digest)
}

// openStored looks for the whole object in the store.
func (p *pull) openStored() error {
	file, err := p.stored()
	if err != nil {
		return err
	}
	p.file, p.verified = file, true
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
	if p.bad != nil || p.file != nil || p.in != nil && p.remote == nil && !p.whole() {
		return
	}
	p.fill, p.halted = true, false
	p.open()
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
func absent(off int64) error {
	return &kindError{fmt.Errorf("offline: byte %d is not in the store", off), syscall.ENETUNREACH}
}

// named says of what an error is. What leaves the package is named once, by
// the Object's methods.
func (p *pull) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", p.name(), err)
}

// name is LOCATOR@DIGEST, of a layer's file LOCATOR@LAYER/DIGEST.
func (p *pull) name() string {
	if p.derived() {
		return p.loc.String() + "@" + p.source.layer.String() + "/" + p.desc.Digest.String()
	}
	return p.loc.String() + "@" + p.desc.Digest.String()
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
