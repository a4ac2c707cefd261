package fetch

import (
	"context"
	"time"

	"distfs/content"
)

const (
	maxPerObject = 4                      // connections that make progress
	stallAfter   = 2 * time.Second        // one without progress does not count from then on
	stallSoon    = 500 * time.Millisecond // nor from then on, where many have none
	grace        = 2 * time.Second        // how long what nobody reads any more goes on
	tick         = 100 * time.Millisecond
	foreignTick  = 15 * time.Millisecond // while another process has what is wanted here
	idleTick     = time.Second           // and nobody waits for it
	firstSegment = 16                    // chunks, where the host's pace is not known
	minSegment   = 4
	maxSegment   = 64
)

// drive looks, again and again, what there is to do, and ends when there is
// nothing: no reader waits, no range is wanted, and all that came is hashed
// and synced.
func (p *pull) drive() {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		p.mu.Lock()
		p.watch()
		p.schedule()
		p.hashMore()
		p.syncMore()
		busy, wait := p.busy(), p.pace()
		p.mu.Unlock()
		if !busy && p.rest() {
			return
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
		case <-timer.C:
		case <-p.f.ctx.Done():
			p.end()
			return
		}
	}
}

// pace is how soon to look again where nothing calls.
func (p *pull) pace() time.Duration {
	switch {
	case p.foreign && (len(p.demands) > 0 || p.verifiers > 0):
		return foreignTick
	case p.foreign && len(p.workers) == 0:
		return idleTick
	}
	return tick
}

// busy says whether anything is under way or wanted. The lock is held.
func (p *pull) busy() bool {
	if len(p.workers) > 0 || p.working() {
		return true
	}
	if p.bad != nil || p.file != nil {
		return false
	}
	return len(p.demands) > 0 || p.wantsAll() && p.uncommitted == nil
}

// rest ends the driver, unless something came up meanwhile.
func (p *pull) rest() bool {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy() {
		return false
	}
	p.driving = false
	if p.in != nil {
		p.in.Disown()
	}
	p.forget()
	return true
}

// end is the driver's when the Fetcher closes: the workers' context has ended,
// and what they have under way is waited for by Close.
func (p *pull) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.driving = false
	p.announce()
}

// watch sees to connections without progress, to readers that left, and to
// what other processes did.
func (p *pull) watch() {
	now := time.Now()
	patience := p.f.limits.patience(p.lane)
	abandoned := p.users == 0 && now.Sub(p.left) > grace && !p.fill
	for w := range p.workers {
		quiet := now.Sub(w.last())
		switch {
		case abandoned:
			w.cancel(context.Canceled)
		case w.paused:
		case !p.derived() && (quiet > p.f.opts.Timeout || w.drips(p.f.opts.Timeout)):
			w.cancel(errStalled(p.f.opts.Timeout))
		case quiet > patience && !w.stalled:
			w.stalled = true
			p.f.limits.stall(p.lane)
		case quiet <= patience && w.stalled:
			w.stalled = false
			p.f.limits.resume(p.lane)
		}
		p.f.limits.measure(p.lane, w)
	}
	if abandoned {
		p.cursors = nil
	}
	if p.in != nil && p.users == 0 && p.fill && len(p.workers) == 0 && !p.refused && now.Sub(p.progress) > p.f.opts.Timeout {
		p.halted = true // another process has claimed the rest, and does not move
	}
	p.look()
}

// look notices what other processes on the store did with the ingest.
func (p *pull) look() {
	if p.in == nil || p.file != nil || p.bad != nil || p.verified {
		return
	}
	switch p.in.State() {
	case content.Committed:
		if !p.hashing {
			p.adopt()
		}
	case content.Discarded:
		if !p.hashing {
			p.thrownAway()
		}
	case content.Filling:
		if n := p.here(); n != p.seen {
			p.seen, p.progress = n, time.Now()
			p.announce()
		}
	}
}

// schedule gives connections to what is wanted: first what a read waits for,
// then what sequences will come to, then the rest of the whole.
func (p *pull) schedule() {
	p.foreign, p.refused = false, false
	if p.in == nil || p.file != nil || p.bad != nil || p.verified || p.remote == nil || p.f.ctx.Err() != nil {
		return
	}
	for p.live() < maxPerObject {
		if p.rangeless && len(p.workers) > 0 || p.servesUnkept() && full(p.unkept) {
			return
		}
		s, urgent := p.next()
		if s.n == 0 {
			return
		}
		if p.refused = !p.f.limits.acquire(p.lane, urgent, p.wake); p.refused || !p.start(s) {
			p.in.Release(s.first, s.n)
			return
		}
	}
}

// next claims what to fetch next, and says whether somebody waits for it.
func (p *pull) next() (s span, urgent bool) {
	if s = p.nextDemand(); s.n > 0 {
		return s, true
	}
	if !p.more() {
		return span{}, false
	}
	if s = p.nextAhead(); s.n == 0 {
		s = p.nextFill()
	}
	return s, false
}

// live counts the connections that make progress.
func (p *pull) live() int {
	n := 0
	for w := range p.workers {
		if !w.stalled {
			n++
		}
	}
	return n
}

// more says whether one connection more would help: one that is fast has the
// line to itself.
func (p *pull) more() bool {
	return p.live() == 0 || p.f.limits.divides(p.lane)
}

// segment is how many chunks to ask for at once: what takes about a second, so
// that who needs one of them does not wait for long, and no connection is cut
// with bytes under way.
func (p *pull) segment() int64 {
	rate := p.f.limits.rate(p.lane)
	if rate == 0 {
		return firstSegment
	}
	return min(max(int64(rate)/content.ChunkSize, minSegment), maxSegment)
}

func (p *pull) nextDemand() span {
	foreign := p.foreign
	defer func() { p.foreign = p.foreign || foreign }()
	for _, d := range p.demands {
		p.foreign = false
		most := d.n + p.segment()
		s := p.claim(d.span, min(p.reach(d.span), d.first+most), most)
		d.foreign = p.foreign
		foreign = foreign || p.foreign
		if s.n > 0 {
			return s
		}
	}
	return span{}
}

// nextAhead fetches ahead of a sequence when half of what it may have ahead is
// used up, so that requests stay large.
func (p *pull) nextAhead() span {
	for _, c := range p.cursors {
		if c.ahead == 0 {
			continue
		}
		end := min(c.next+c.ahead, p.chunks())
		at, n := p.free(c.next, end)
		if n == 0 || n < c.ahead/2 && at-c.next > c.ahead/2 && at+n < p.chunks() {
			continue
		}
		if s := p.claim(span{at, n}, at+n, p.segment()); s.n > 0 {
			return s
		}
	}
	return span{}
}

func (p *pull) nextFill() span {
	if !p.wantsAll() {
		return span{}
	}
	_, n := p.free(0, p.chunks())
	most := p.segment()
	if p.f.limits.divides(p.lane) {
		most = min(most, max(minSegment, n/int64(p.live()+1))) // so that all end together
	}
	return p.claim(p.everything(), p.chunks(), most)
}

// free returns the first run of absent chunks in [at, end) that no worker is
// on and no failure of a moment ago forbids.
func (p *pull) free(at, end int64) (first, n int64) {
	for at < end {
		first, n := p.in.Missing(at, end-at)
		if n == 0 {
			return 0, 0
		}
		s := span{first, n}
		skip := int64(-1)
		for w := range p.workers {
			s, skip = s.without(w.span(), skip)
		}
		for _, f := range p.failures {
			if time.Now().Before(f.until) {
				s, skip = s.without(f.span, skip)
			}
		}
		if s.n > 0 {
			return s.first, s.n
		}
		at = max(skip, first+1)
	}
	return 0, 0
}

// without cuts s off where o begins; where o covers its first chunk nothing is
// left of it, and skip becomes o's end.
func (s span) without(o span, skip int64) (span, int64) {
	switch {
	case s.n == 0 || !s.overlaps(o):
	case o.first <= s.first:
		return span{s.first, 0}, max(skip, o.end())
	default:
		s.n = o.first - s.first
	}
	return s, skip
}

// claim claims the first run in s that is to be had, up to the chunk end, which
// may lie beyond s, and at most so many chunks.
func (p *pull) claim(s span, end, most int64) span {
	for at := s.first; at < s.end(); {
		first, n := p.free(at, max(s.end(), end))
		if n == 0 || first >= s.end() {
			return span{}
		}
		got, err := p.in.Claim(first, max(1, min(n, end-first, most)))
		if err != nil {
			p.f.opts.Log.Warn("claim", "digest", p.desc.Digest, "err", err)
			return span{}
		}
		if got > 0 {
			return span{first, got}
		}
		p.foreign = true
		at = first + 1
	}
	return span{}
}
