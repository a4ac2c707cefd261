package fetch

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	maxLoose   = 16 // chunks in memory that are not kept on disk, of all objects together
	maxFetches = 4  // and on their way there, of each host
)

// loose are chunks that could not be kept, in memory for those who read them
// now. Each is fetched once for all who want it at the time.
type loose struct {
	places *places // for those who fetch

	mu     sync.Mutex
	chunks map[looseKey]*looseChunk // guarded by mu
	order  []looseKey               // those that are here, the oldest first; guarded by mu
}

type looseKey struct {
	p *pull
	c int64
}

type looseChunk struct {
	done chan struct{} // closed when b or err is there
	b    []byte
	err  error
}

func newLoose() *loose {
	return &loose{places: newPlaces(maxFetches), chunks: make(map[looseKey]*looseChunk)}
}

// join returns the chunk, and whether the caller is to fetch it and land it.
func (l *loose) join(k looseKey) (ch *looseChunk, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch = l.chunks[k]; ch != nil {
		return ch, false
	}
	ch = &looseChunk{done: make(chan struct{})}
	l.chunks[k] = ch
	return ch, true
}

// land ends a fetch. What failed is not remembered, what is oldest makes room.
func (l *loose) land(k looseKey, ch *looseChunk, b []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch.b, ch.err = b, err
	close(ch.done)
	if l.chunks[k] != ch {
		return // dropped meanwhile
	}
	if err != nil {
		delete(l.chunks, k)
		return
	}
	l.order = append(l.order, k)
	if len(l.order) > maxLoose {
		delete(l.chunks, l.order[0])
		l.order = slices.Delete(l.order, 0, 1)
	}
}

// put adds a chunk that came by another way.
func (l *loose) put(k looseKey, b []byte) {
	if ch, first := l.join(k); first {
		l.land(k, ch, b, nil)
	}
}

// peek returns a chunk if it is here.
func (l *loose) peek(k looseKey) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := l.chunks[k]
	if ch == nil {
		return nil
	}
	select {
	case <-ch.done:
		return ch.b
	default:
		return nil
	}
}

// drop forgets the chunks of p, and those that are on their way when they land.
func (l *loose) drop(p *pull) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order = slices.DeleteFunc(l.order, func(k looseKey) bool { return k.p == p })
	for k := range l.chunks {
		if k.p == p {
			delete(l.chunks, k)
		}
	}
}

// patient returns a context that ends when there was no progress for too long.
// moved says how many bytes came; a byte now and then is none.
func (f *Fetcher) patient(ctx context.Context) (_ context.Context, moved func(n int), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(f.opts.Timeout, func() { cancel(errStalled(f.opts.Timeout)) })
	got := 0
	moved = func(n int) {
		if got += n; got >= progressMin {
			got = 0
			timer.Reset(f.opts.Timeout)
		}
	}
	return ctx, moved, func() { timer.Stop(); cancel(nil) }
}

// A movingReader tells what is read.
type movingReader struct {
	io.Reader
	moved func(n int)
}

func (r movingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.moved(n)
	return n, err
}
