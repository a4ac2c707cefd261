package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"distfs/content"
)

// Bytes that cannot be kept, because the disk is full or because a process that
// has claimed them stands still, are served all the same: by chunks, from
// memory. What remains of a chunk is its SHA-256. Once the whole is known to be
// right, by a pass over it (pass.go) or because it is here after all, what
// readers were shown is held against it; and from then on each chunk is checked
// before it is served.

const (
	unkeptFor = 10 * time.Second // how long to serve so before trying to keep again

	// maxUnkept is of how many chunks of an object the hash is remembered: 2 MiB
	// of memory, and an object of 64 GiB.
	maxUnkept = 1 << 16
)

// A sum is a chunk's SHA-256.
type sum [sha256.Size]byte

// full says that the store takes no more bytes now.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// fullSaid is for how long a full disk was said.
const fullSaid = time.Minute

// sayFull says whether err is that of a full disk. That is one line in the log,
// and not one for each object and record; none where nobody reads, who has the
// error itself.
func (f *Fetcher) sayFull(err error) bool {
	if !full(err) {
		return false
	}
	now := time.Now().UnixNano()
	last := f.saidFull.Load()
	if !f.opts.Bulk && (last == 0 || now-last > int64(fullSaid)) && f.saidFull.CompareAndSwap(last, now) {
		f.opts.Log.Warn("the store takes no more: served without being kept", "store", f.store.Dir(), "err", err)
	}
	return true
}

// cannotKeep says whether err, of a wait, means that the bytes could be had but
// not be kept. The lock is held.
func (p *pull) cannotKeep(err error) bool {
	if p.remote == nil || err == nil {
		return false
	}
	stands := errors.Is(err, os.ErrDeadlineExceeded) && (p.foreign || p.in == nil)
	return full(err) || stands || p.unkept != nil && errors.Is(err, p.unkept)
}

// serveUnkept has bytes served without being kept for a while. The lock is held.
func (p *pull) serveUnkept(err error) {
	if !p.f.sayFull(err) && p.unkept == nil && !p.f.opts.Bulk {
		p.f.opts.Log.Warn("served without being kept", "digest", p.desc.Digest, "err", err)
	}
	if p.unkept == nil || !errors.Is(err, p.unkept) {
		p.unkept = &unkeptError{err}
	}
	p.unkeptUntil = time.Now().Add(unkeptFor)
	p.halted = p.halted || full(err)
	p.announce()
}

// An unkeptError is why bytes are not kept.
type unkeptError struct{ err error }

func (e *unkeptError) Error() string { return "not kept: " + e.err.Error() }
func (e *unkeptError) Unwrap() error { return e.err }

func (p *pull) servesUnkept() bool { return time.Now().Before(p.unkeptUntil) }

// awaitUnkept has the chunks of s at hand for the read that follows, as far as
// they find room. The lock is held, but not while it waits.
func (p *pull) awaitUnkept(ctx context.Context, s span) error {
	p.mu.Unlock()
	defer p.mu.Lock()
	for c := s.first; c < min(s.end(), s.first+maxLoose/2); c++ {
		if _, err := p.looseChunk(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// readUnkept reads from chunks in memory, fetched for that where they are not
// there. The lock is not held.
func (p *pull) readUnkept(ctx context.Context, b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		at := off + int64(n)
		c := at / content.ChunkSize
		chunk, err := p.looseChunk(ctx, c)
		if err != nil {
			return n, err
		}
		n += copy(b[n:], chunk[at-p.offset(c):])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.bad != nil:
		return 0, p.bad
	case p.file != nil: // a chunk may have come after the digest matched, unchecked
		return p.file.ReadAt(b, off)
	case p.verified:
		return p.in.ReadAt(b, off)
	}
	return n, nil
}

// looseChunk returns chunk c, not to be changed. Who leaves leaves the fetch to
// the others, and to the next.
func (p *pull) looseChunk(ctx context.Context, c int64) ([]byte, error) {
	k := looseKey{p, c}
	l, first := p.f.loose.join(k)
	if first {
		began := p.f.begin(func() {
			b, err := p.getLoose(c)
			p.f.loose.land(k, l, b, err)
			if err == nil {
				p.follow(c)
			}
		})
		if !began {
			p.f.loose.land(k, l, nil, context.Canceled)
		}
	}
	select {
	case <-l.done:
		return l.b, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.f.ctx.Done():
		return nil, context.Canceled
	}
}

// getLoose gets chunk c from the ingest, where the chunk's hash can be told
// already, else from the remote.
func (p *pull) getLoose(c int64) ([]byte, error) {
	leave, err := p.place(p.f.loose.places)
	if err != nil {
		return nil, err
	}
	defer leave()
	b := make([]byte, p.offset(c+1)-p.offset(c))
	if p.readKept(b, c) && p.admit(c, b) == nil {
		return b, nil
	}
	patience := newPatience(p.f.opts.Timeout)
	for {
		err := p.getRemote(b, c)
		if err == nil {
			return b, p.admit(c, b)
		}
		d, again := patience.pause(p.f.ctx, err)
		if !again || !sleep(p.f.ctx, d) {
			return nil, err
		}
	}
}

// place takes a place for p's host. Nobody waits for one longer than without
// progress.
func (p *pull) place(of *places) (leave func(), err error) {
	ctx, _, stop := p.f.patient(p.f.ctx)
	defer stop()
	return of.enter(ctx, p.lane)
}

// getRemote reads chunk c from the remote. The lock is not held.
func (p *pull) getRemote(b []byte, c int64) error {
	ctx, moved, stop := p.f.patient(p.f.ctx)
	defer stop()
	body, err := p.get(ctx, p.offset(c), int64(len(b)))
	if err != nil {
		return err
	}
	defer body.Close()
	p.sentBy(body)
	r := movingReader{body, moved}
	if err := skip(r, p.offset(c)-body.Offset); err != nil {
		return kind(ctx, err)
	}
	if _, err := io.ReadFull(r, b); err != nil {
		return kind(ctx, err)
	}
	p.answered()
	return nil
}

// readKept reads chunk c from the ingest if it is there. The lock is not held.
func (p *pull) readKept(b []byte, c int64) bool {
	p.mu.Lock()
	in := p.in
	p.mu.Unlock()
	if in == nil || !in.Has(c, 1) {
		return false
	}
	n, err := in.ReadAt(b, p.offset(c))
	return n == len(b) && (err == nil || errors.Is(err, io.EOF))
}

// admit holds chunk c against what is known of it, and remembers what is about
// to be shown. A reader who saw another chunk in its place has been lied to.
func (p *pull) admit(c int64, b []byte) error {
	s := sum(sha256.Sum256(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil {
		return p.bad
	}
	if p.verified {
		return nil // whoever reads reads what is kept
	}
	if p.sums != nil {
		if p.sums[c] != s {
			return broken("chunk %d is not of the object that the digest names", c)
		}
		return nil
	}
	if was, ok := p.shown[c]; ok && was != s {
		p.spoil(&shownError{c})
		return p.bad
	}
	if len(p.shown) >= maxUnkept {
		return &kindError{fmt.Errorf("more than %d chunks: %w", maxUnkept, p.unkept), syscall.ENOSPC}
	}
	if p.shown == nil {
		p.shown = make(map[int64]sum)
	}
	p.shown[c] = s
	return nil
}

// seenBytes says whether a reader has seen a byte that nothing vouched for. The
// lock is held.
func (p *pull) seenBytes() bool { return p.served || len(p.shown) > 0 }

// vouch holds what was shown against the file, whose digest matched, and marks
// the pull as verified.
func (p *pull) vouch(file *os.File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	checked := make(map[int64]bool)
	for more := p.unchecked(checked); len(more) > 0; more = p.unchecked(checked) {
		p.mu.Unlock()
		err := p.compareShown(file, more)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
	p.shown = nil
	p.verified = true
	p.announce()
	return nil
}

// unchecked returns what was shown and is not in checked yet, and puts it there.
func (p *pull) unchecked(checked map[int64]bool) map[int64]sum {
	more := make(map[int64]sum)
	for c, s := range p.shown {
		if !checked[c] {
			checked[c], more[c] = true, s
		}
	}
	return more
}

func (p *pull) compareShown(file *os.File, shown map[int64]sum) error {
	b := make([]byte, content.ChunkSize)
	for c, s := range shown {
		b := b[:p.offset(c+1)-p.offset(c)]
		if _, err := file.ReadAt(b, p.offset(c)); err != nil {
			return &kindError{err, syscall.EIO}
		}
		if sha256.Sum256(b) != s {
			return &shownError{c}
		}
	}
	return nil
}

// A shownError says that a reader was shown bytes that are not the object's.
type shownError struct{ chunk int64 }

func (e *shownError) Error() string {
	return fmt.Sprintf("chunk %d was served without being kept, and was wrong", e.chunk)
}

// Is makes it syscall.EIO.
func (e *shownError) Is(target error) bool { return target == syscall.EIO }

// skip reads past n bytes, which a remote without ranges sent before those that
// were asked for.
func skip(r io.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return err
}
