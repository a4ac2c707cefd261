package fetch

import (
	"context"
	"errors"
	"io"
	"time"
)

// A demand is a range that a read waits for.
type demand struct{ span }

// wait waits until the n bytes from off on are here or may be served without
// being kept.
func (p *pull) wait(ctx context.Context, off, n int64) error {
	s := chunksOf(off, n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		return nil
	}
	if p.bad != nil {
		return p.bad
	}
	if err := p.open(); err != nil {
		if !full(err) || p.remote == nil {
			return err
		}
		p.serveUnkept(err)
		return p.fetchDirect(ctx, off, n)
	}
	if p.touch(s) {
		p.kick()
	}
	if p.has(s) {
		return nil
	}
	if p.remote == nil {
		return p.absent(off)
	}
	d := &demand{s}
	p.demands = append(p.demands, d)
	defer p.drop(d)
	err := p.await(ctx, func() (bool, error) {
		if p.bad != nil {
			return false, p.bad
		}
		return p.has(s) || p.serveDirect(), p.failed(s)
	})
	if errors.Is(err, errNoProgress) && p.foreign {
		// Only another process could bring it, and does not.
		p.direct, err = time.Now().Add(directFor), nil
	}
	if err != nil || p.has(s) {
		return err
	}
	return p.fetchDirect(ctx, off, n)
}

// await waits until done is true or gives an error, ctx ends, or there was no
// progress for too long. The lock is held, but not while it waits.
func (p *pull) await(ctx context.Context, done func() (bool, error)) error {
	start := time.Now()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		since := start
		for _, moved := range p.moved() {
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
// its way here. A connection that drips is ended by watch.
func (p *pull) moved() []time.Time {
	times := []time.Time{p.progress}
	for w := range p.workers {
		times = append(times, w.last())
	}
	return times
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
func (p *pull) readAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	var from io.ReaderAt
	switch {
	case p.bad != nil:
		p.mu.Unlock()
		return 0, p.bad
	case p.file != nil:
		from = p.file
	case p.has(chunksOf(off, int64(len(b)))):
		from = p.in
		p.served = p.served || !p.verified
	}
	if from == nil {
		defer p.mu.Unlock()
		return p.takeDirect(b, off)
	}
	p.mu.Unlock()
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

// verify waits until the digest matched, having all of the object fetched.
func (p *pull) verify(ctx context.Context) error {
	return p.awaitWhole(ctx, func() (bool, error) { return p.verified, nil })
}

// commit waits until the object is in the store.
func (p *pull) commit(ctx context.Context) error {
	return p.awaitWhole(ctx, func() (bool, error) { return p.file != nil, p.uncommitted })
}

func (p *pull) awaitWhole(ctx context.Context, done func() (bool, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok, _ := done(); ok {
		return nil
	}
	if p.bad != nil {
		return p.bad
	}
	if err := p.open(); err != nil {
		return err
	}
	p.verifiers++
	defer func() { p.verifiers-- }()
	return p.await(ctx, func() (bool, error) {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		switch {
		case p.bad != nil:
			return false, p.bad
		case p.file != nil || p.verified || p.whole():
			return false, nil
		case p.remote == nil:
			return false, p.absent(0)
		case p.unkept != nil && p.serveDirect():
			return false, p.unkept
		}
		return false, p.failed(p.everything())
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
