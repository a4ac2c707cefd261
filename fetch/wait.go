package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A demand is a range that a read waits for.
type demand struct {
	span
	foreign bool      // another process has claimed some of it; guarded by the pull's lock
	missing int64     // chunks around it that were absent, and
	moved   time.Time // since when
}

// wait waits until the n bytes from off on are here or may be served without
// being kept.
func (p *pull) wait(ctx context.Context, off, n int64) error {
	s := chunksOf(off, n)
	if p.small() {
		return p.waitSmall(ctx, s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.awaitSpan(ctx, s)
	if p.bad == nil && p.cannotKeep(err) {
		p.serveUnkept(err)
		err = nil
	}
	if err != nil || p.has(s) {
		return err
	}
	if p.remote == nil {
		return absent(off)
	}
	return p.awaitUnkept(ctx, s)
}

// awaitSpan waits until s is here, or is to be served without being kept. The
// lock is held, but not while it waits.
func (p *pull) awaitSpan(ctx context.Context, s span) error {
	if p.bad != nil {
		return p.bad
	}
	if err := p.needOpen(ctx); err != nil {
		return err
	}
	if p.file != nil {
		return nil
	}
	if p.touch(s) {
		p.kick()
	}
	if p.has(s) || p.remote == nil || p.in == nil {
		return nil
	}
	d := &demand{span: s, moved: time.Now()}
	p.demands = append(p.demands, d)
	defer p.drop(d)
	return p.await(ctx, func() []time.Time { return p.movedFor(d) }, func() (bool, error) {
		if p.bad != nil {
			return false, p.bad
		}
		return p.has(s) || p.servesUnkept(), cmp.Or(p.failed(s), p.notBegun())
	})
}

// await waits until done is true or gives an error, ctx ends, or there was no
// progress for too long; moved says when there was. The lock is held, but not
// while it waits.
func (p *pull) await(ctx context.Context, moved func() []time.Time, done func() (bool, error)) error {
	start := time.Now()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		since := start
		for _, moved := range moved() {
			if moved.After(since) {
				since = moved
			}
		}
		left := p.f.opts.Timeout - time.Since(since)
		if left <= 0 {
			return errStalled(p.f.opts.Timeout)
		}
		p.kick()
		changed := p.changed
		timer := time.NewTimer(left)
		p.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-p.f.ctx.Done():
			err = context.Canceled
		}
		timer.Stop()
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// moved is when bytes last arrived: whole chunks from whomever, and what is on
// its way here. A connection that drips is ended by watch. Who has to wait for a
// connection, because the host has as many as it may, waits while those move.
func (p *pull) moved() []time.Time {
	times, waits := []time.Time{p.progress}, p.refused
	for w := range p.workers {
		times = append(times, p.heard(w))
		waits = waits || w.paused
	}
	if waits {
		times = append(times, p.f.limits.moved(p.lane))
	}
	return times
}

// heard is when w last made progress. Of a layer's file that is now: who reads the
// layer for it sees to that.
func (p *pull) heard(w *worker) time.Time {
	if p.derived() {
		return time.Now()
	}
	return w.last()
}

// movedFor is when something last moved that d waits for. Of what another
// process has claimed that is the chunks around it, and not what goes on
// elsewhere in the object.
func (p *pull) movedFor(d *demand) []time.Time {
	if !d.foreign || p.in == nil {
		return p.moved()
	}
	if n := p.missing(max(d.first-maxSegment, 0), d.end()); n != d.missing {
		d.missing, d.moved = n, time.Now()
	}
	times := []time.Time{d.moved}
	for w := range p.workers {
		if w.span().overlaps(d.span) {
			times = append(times, p.heard(w))
		}
	}
	return times
}

// missing counts the absent chunks from first up to, without, end.
func (p *pull) missing(first, end int64) (n int64) {
	for first < end {
		at, absent := p.in.Missing(first, end-first)
		if absent == 0 {
			break
		}
		n += absent
		first = at + absent
	}
	return n
}

// drop takes d from the queue.
func (p *pull) drop(d *demand) {
	for i, other := range p.demands {
		if other == d {
			p.demands = append(p.demands[:i], p.demands[i+1:]...)
			return
		}
	}
}

// readAt reads what wait waited for.
func (p *pull) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	p.mu.Lock()
	var from io.ReaderAt
	switch {
	case p.bad != nil:
		p.mu.Unlock()
		return 0, p.bad
	case p.file != nil:
		from = p.file
	case p.serves(chunksOf(off, int64(len(b)))):
		from = p.in
		p.served = p.served || !p.verified
	}
	p.mu.Unlock()
	if from == nil {
		return p.readUnkept(ctx, b, off)
	}
	n, err := from.ReadAt(b, off)
	if n == len(b) {
		err = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil {
		return 0, p.bad
	}
	return n, err
}

// serves says whether s is served from the ingest as it lies there. Once bytes
// were served without being kept, no chunk is any more before the digest matched:
// a pass may have hashed another in its place. The lock is held.
func (p *pull) serves(s span) bool {
	return p.in != nil && p.in.Has(s.first, s.n) && (p.verified || p.unkept == nil)
}

// verify waits until the digest matched, having all of the object fetched; what
// cannot be kept is hashed as it comes.
func (p *pull) verify(ctx context.Context) error {
	if p.small() {
		return p.load(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.awaitWhole(ctx, p.servesUnkept, func() (bool, error) { return p.verified || p.sums != nil, nil })
	if p.bad != nil || !p.cannotKeep(err) {
		return err
	}
	p.serveUnkept(err)
	return p.awaitPass(ctx)
}

// commit waits until the object is in the store. The error is ErrNotKept if it
// was verified and does not come there.
func (p *pull) commit(ctx context.Context) error {
	if p.small() {
		return p.commitSmall(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	isFull := func() bool { return p.servesUnkept() && full(p.unkept) }
	err := p.awaitWhole(ctx, isFull, func() (bool, error) { return p.file != nil, p.uncommitted })
	if err != nil && p.bad == nil && ctx.Err() == nil && (p.verified || p.sums != nil) {
		if why, said := errors.AsType[*unkeptError](err); said {
			err = why.err
		}
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return err
}

// awaitWhole waits for what comes of the whole object, unless giveUp says that
// it will not be kept. The lock is held, but not while it waits.
func (p *pull) awaitWhole(ctx context.Context, giveUp func() bool, done func() (bool, error)) error {
	if ok, _ := done(); ok {
		return nil
	}
	if p.bad != nil {
		return p.bad
	}
	if err := p.needOpen(ctx); err != nil {
		return err
	}
	p.verifiers++
	defer func() { p.verifiers-- }()
	return p.await(ctx, p.moved, func() (bool, error) {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		switch {
		case p.bad != nil:
			return false, p.bad
		case giveUp() && !p.whole():
			return false, p.unkept
		case p.file != nil || p.verified || p.whole():
			return false, nil
		case p.remote == nil:
			return false, absent(0)
		}
		return false, cmp.Or(p.failed(p.everything()), p.notBegun())
	})
}

// A cursor is a read that goes on in sequence.
type cursor struct {
	next  int64 // the chunk after those that were read
	ahead int64 // how many chunks beyond may be fetched: about as many as were read
}

const (
	maxCursors = 16
	maxAhead   = 128 // chunks
	nearby     = 4   // chunks that a read may lie behind its sequence, and still be of it
)

// touch notes that s is read, and says whether that may call for more.
func (p *pull) touch(s span) bool {
	for i, c := range p.cursors {
		if s.first < c.next-nearby || s.first > c.next+1 {
			continue
		}
		if s.end() <= c.next {
			return false // on within what was asked for
		}
		c.next = s.end()
		c.ahead = min(max(2*c.ahead, 2*s.n), maxAhead)
		copy(p.cursors[1:i+1], p.cursors[:i])
		p.cursors[0] = c
		return true
	}
	if len(p.cursors) == maxCursors {
		p.cursors = p.cursors[:maxCursors-1]
	}
	p.cursors = append([]*cursor{{next: s.end()}}, p.cursors...)
	return false
}

// reach is up to which chunk a sequence that has come to s may be fetched.
func (p *pull) reach(s span) int64 {
	end := s.end()
	for _, c := range p.cursors {
		if c.next >= s.first && c.next <= s.end() {
			end = max(end, c.next+c.ahead)
		}
	}
	return min(end, p.chunks())
}
