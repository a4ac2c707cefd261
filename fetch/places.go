package fetch

import (
	"context"
	"sync"
)

// places bound what is done for each host at a time, so that one whose requests
// stand still keeps nobody from another.
type places struct {
	most int

	mu sync.Mutex
	m  map[string]*hostPlaces // guarded by mu
}

type hostPlaces struct {
	free  chan struct{} // has an element for each place that is taken
	users int           // who have a place or wait for one; guarded by places.mu
}

func newPlaces(most int) *places { return &places{most: most, m: make(map[string]*hostPlaces)} }

// enter takes a place, to be left, or returns why ctx ended.
func (p *places) enter(ctx context.Context, host string) (leave func(), err error) {
	p.mu.Lock()
	h := p.m[host]
	if h == nil {
		h = &hostPlaces{free: make(chan struct{}, p.most)}
		p.m[host] = h
	}
	h.users++
	p.mu.Unlock()
	select {
	case h.free <- struct{}{}:
		return func() { <-h.free; p.forget(host, h) }, nil
	case <-ctx.Done():
		p.forget(host, h)
		return nil, context.Cause(ctx)
	}
}

func (p *places) forget(host string, h *hostPlaces) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(p.m, host)
	}
}
