package fetch

import (
	"context"
	"log/slog"
	"sync"
)

// A story tells what is done for an object, in the log at level debug, on
// behalf of who waits for it: lines bear what the log's handler finds in that
// one's context. Below that level nothing is kept. The zero value is ready.
type story struct {
	mu      sync.Mutex
	readers []*reader       // guarded by mu
	last    context.Context //nolint:containedctx // for its values alone: on whose behalf work goes on that nobody waits for; guarded by mu
}

// A reader waits for some chunks.
type reader struct {
	ctx context.Context //nolint:containedctx // for its values alone, while the call that has it waits
	span
}

func (p *pull) tells() bool { return p.f.opts.Log.Enabled(p.f.ctx, slog.LevelDebug) }

// reading says that ctx waits for s, until end, and tells of it if it is not here.
func (p *pull) reading(ctx context.Context, s span) (end func()) {
	if !p.tells() {
		return func() {}
	}
	p.mu.Lock()
	here := p.has(s)
	p.mu.Unlock()
	if !here {
		p.log(ctx, "demand", s)
	}
	r := &reader{ctx, s}
	p.story.mu.Lock()
	p.story.readers = append(p.story.readers, r)
	p.story.last = context.WithoutCancel(ctx) //nolint:fatcontext // it replaces the one before and does not nest
	p.story.mu.Unlock()
	return func() {
		p.story.mu.Lock()
		defer p.story.mu.Unlock()
		for i, other := range p.story.readers {
			if other == r {
				p.story.readers = append(p.story.readers[:i], p.story.readers[i+1:]...)
				return
			}
		}
	}
}

// tell logs what is done with s, on behalf of who waits for it. The lock may be
// held.
func (p *pull) tell(what string, s span) {
	if p.tells() {
		p.log(p.behalf(p.f.ctx, s), what, s)
	}
}

func (p *pull) log(ctx context.Context, what string, s span) {
	off := p.offset(s.first)
	p.f.opts.Log.LogAttrs(ctx, slog.LevelDebug, what, slog.String("locator", p.loc.String()),
		slog.String("digest", p.desc.Digest.String()), slog.Int64("offset", off), slog.Int64("bytes", p.offset(s.end())-off))
}

// behalf is ctx with the values of who waits for s, else of who did last.
func (p *pull) behalf(ctx context.Context, s span) context.Context {
	if !p.tells() {
		return ctx
	}
	p.story.mu.Lock()
	defer p.story.mu.Unlock()
	for _, r := range p.story.readers {
		if r.overlaps(s) {
			return behalfContext{ctx, r.ctx}
		}
	}
	if p.story.last == nil {
		return ctx
	}
	return behalfContext{ctx, p.story.last}
}

// A behalfContext ends with its Context and has the values of another one too.
type behalfContext struct {
	context.Context                 //nolint:containedctx // it is one
	of              context.Context //nolint:containedctx // for its values alone
}

func (c behalfContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.of.Value(key)
}

// opened says that ctx opened the object: what is done before anybody reads is
// done on its behalf.
func (p *pull) opened(ctx context.Context) {
	if !p.tells() {
		return
	}
	p.story.mu.Lock()
	defer p.story.mu.Unlock()
	p.story.last = context.WithoutCancel(ctx) //nolint:fatcontext // it replaces the one before and does not nest
}
