package layer

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// A Content reads the files of one layer. It may be used by any number of
// goroutines.
type Content struct {
	ix    *Index
	blob  Blob
	id    string
	cache *Cache
	kept  Kept // nil: nothing

	buffers buffers
	gunzips sync.Pool                     // of *gunzip: they are large
	zstd    func() (*zstd.Decoder, error) // for spans that are decoded as a whole

	runs chan struct{} // has one for each run that is in use

	mu      sync.Mutex
	flights map[int]*flight // spans that are being loaded; guarded by mu
	pieces  map[int][]sum   // of large spans that were found to be right; guarded by mu
}

// NewContent returns the Content of the layer that ix describes and whose bytes
// blob has. In the cache, which may be nil, id tells it from other layers: it is the
// layer's digest, or names what else tells its bytes. Contents of one layer may have
// different indexes of it. There is nothing to close: what is being read for callers
// that left ends with the blob's ReadAt.
func NewContent(ix *Index, blob Blob, id string, cache *Cache) *Content {
	return &Content{
		ix: ix, blob: blob, id: id, cache: cache,
		gunzips: sync.Pool{New: func() any { return new(gunzip) }},
		zstd: sync.OnceValues(func() (*zstd.Decoder, error) {
			return zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderLowmem(true))
		}),
		runs: make(chan struct{}, maxRuns), flights: make(map[int]*flight), pieces: make(map[int][]sum),
	}
}

// Kept has what parts of the stream decode to, beyond what is in memory. It may be used
// by any number of goroutines.
type Kept interface {
	// Read reads all of p from the stream at off, or is false.
	Read(ctx context.Context, p []byte, off int64) bool
	// Has says whether Read would have n bytes at off.
	Has(ctx context.Context, off, n int64) bool
	// Keep may keep what the span decodes to, which was verified, and says whether it
	// did. b is the caller's again when it returns.
	Keep(span int, b []byte) bool
}

// KeepIn has c ask k before it decodes anything. It is called before c is used.
func (c *Content) KeepIn(k Kept) { c.kept = k }

// Decode decodes a span that is not large, for who is given it to keep.
func (c *Content) Decode(ctx context.Context, span int) error {
	return c.shared(ctx, span, func([]byte) {})
}

// ReadAt reads from the content of a File of the Index, as io.ReaderAt has it.
// Every byte was held against the digest of its span before it is returned.
//
// The error is a *DamageError where the blob is not what the index says, that of ctx
// when it ends, and else the blob's.
func (c *Content) ReadAt(ctx context.Context, ino *Inode, p []byte, off int64) (n int, err error) {
	switch {
	case ino.Kind != File || off < 0:
		return 0, syscall.EINVAL
	case off >= ino.Size:
		return 0, io.EOF
	}
	short := int64(len(p)) > ino.Size-off
	if short {
		p = p[:ino.Size-off]
	}
	if data := ino.Data(); data == nil {
		n, err = c.stream(ctx, p, ino.Offset+off)
	} else {
		n, err = c.sparse(ctx, data, p, off)
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// sparse reads from a file with holes.
func (c *Content) sparse(ctx context.Context, data []Segment, p []byte, off int64) (n int, err error) {
	i := sort.Search(len(data), func(i int) bool { return data[i].At+data[i].Length > off })
	for n < len(p) && err == nil {
		at, rest := off+int64(n), p[n:]
		if i == len(data) {
			clear(rest)
			return len(p), nil
		}
		s, m := &data[i], 0
		if at < s.At {
			m = int(min(int64(len(rest)), s.At-at))
			clear(rest[:m])
		} else {
			m, err = c.stream(ctx, rest[:min(int64(len(rest)), s.At+s.Length-at)], s.Offset+at-s.At)
			i++
		}
		n += m
	}
	return n, err
}

// stream reads all of p from the stream at off.
func (c *Content) stream(ctx context.Context, p []byte, off int64) (n int, err error) {
	if c.kept != nil && c.kept.Read(ctx, p, off) {
		return len(p), nil
	}
	spans := c.ix.Spans
	i := sort.Search(len(spans), func(i int) bool { return spans[i].Out+spans[i].Size > off })
	for n < len(p) {
		if i == len(spans) {
			return n, fmt.Errorf("layer %s: nothing at %d: %w", c.id, off+int64(n), syscall.EIO)
		}
		s := &spans[i]
		from := off + int64(n) - s.Out
		m := min(int64(len(p)-n), s.Size-from)
		if err := c.span(ctx, i, p[n:][:m], from); err != nil {
			return n, c.named(i, err)
		}
		n += int(m)
		i++
	}
	return n, nil
}

// span reads all of p from the decoded span i at from.
func (c *Content) span(ctx context.Context, i int, p []byte, from int64) error {
	s := &c.ix.Spans[i]
	switch {
	case s.Kind == Zeros:
		clear(p)
		return nil
	case s.Large():
		return c.large(ctx, i, p, from)
	}
	if b := c.cache.get(c.key(i)); b != nil {
		copy(p, b[from:])
		return nil
	}
	return c.shared(ctx, i, func(b []byte) { copy(p, b[from:]) })
}

// A flight is the loading of a span or its verification, for all who wait for it.
type flight struct {
	waiters int // who wait, or use bytes; guarded by Content.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when the following are there
	bytes   []byte
	loose   bool // nobody has bytes but those who wait
	err     error
}

// shared loads the span i, or verifies it if it is large, once for all who want it at
// a time. That ends early when the last of them left. use has what it decodes to while it
// lasts.
func (c *Content) shared(ctx context.Context, i int, use func(b []byte)) error {
	c.mu.Lock()
	f := c.flights[i]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var work context.Context
		work, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		c.flights[i] = f
		go c.fly(work, i, f)
	}
	f.waiters++
	c.mu.Unlock()
	select {
	case <-f.done:
		if f.err == nil {
			use(f.bytes)
		}
		if c.leave(f, i) && f.loose {
			c.buffers.put(f.bytes)
		}
		return f.err
	case <-ctx.Done():
		if c.leave(f, i) {
			f.cancel()
		}
		return ctx.Err()
	}
}

// leave says whether the last one left.
func (c *Content) leave(f *flight, i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && c.flights[i] == f { // who comes next begins anew
		delete(c.flights, i)
	}
	return f.waiters == 0
}

func (c *Content) fly(ctx context.Context, i int, f *flight) {
	defer f.cancel()
	if s := &c.ix.Spans[i]; s.Large() {
		f.err = c.verify(ctx, i)
	} else if f.bytes, f.err = c.load(ctx, s); f.err == nil {
		f.loose = c.kept != nil && c.kept.Keep(i, f.bytes)
		if !f.loose {
			c.cache.put(c.key(i), f.bytes)
		}
	}
	c.mu.Lock()
	if c.flights[i] == f {
		delete(c.flights, i)
	}
	c.mu.Unlock()
	close(f.done)
}
