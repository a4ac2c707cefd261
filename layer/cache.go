package layer

import (
	"container/list"
	"slices"
	"sync"
)

// A Cache keeps decoded parts of layers in memory for who reads on in them. Any
// number of Contents may share one. A nil *Cache keeps nothing.
type Cache struct {
	most    int64
	windows windows // of all decoders

	mu    sync.Mutex
	bytes int64                      // of all that is kept
	kept  map[cacheKey]*list.Element // of cached
	order list.List                  // what was used last is in front
	runs  []*run                     // that nobody uses; the one that was used last is last
}

// A run takes memory of its own, a window. So many may be in use for a layer, and so many
// are kept of all.
const maxRuns = 2

// A cacheKey tells a span from all others, and so from those of another index of the
// same layer: a table of contents has other spans than the tar.
type cacheKey struct {
	layer           string
	kind            SpanKind
	bits            uint8
	off, skip, size int64
	digest          sum
}

// key returns the key of the span i.
func (c *Content) key(i int) cacheKey {
	s := &c.ix.Spans[i]
	return cacheKey{c.id, s.Kind, s.Bits, s.Off, s.Skip, s.Size, s.Digest}
}

type cached struct {
	key   cacheKey
	bytes []byte
}

// NewCache returns a Cache of at most so many bytes.
func NewCache(bytes int64) *Cache {
	c := &Cache{most: bytes, kept: make(map[cacheKey]*list.Element)}
	c.windows.left, c.windows.idle = allWindows, c.dropRuns
	return c
}

// get returns what is kept, which nobody changes, or nil.
func (c *Cache) get(key cacheKey) []byte {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.kept[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).bytes
}

// put keeps b, for which what was not used for longest goes.
func (c *Cache) put(key cacheKey, b []byte) {
	if c == nil || int64(cap(b)) > c.most {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept[key] != nil {
		return
	}
	c.kept[key] = c.order.PushFront(&cached{key, b})
	for c.bytes += int64(cap(b)); c.bytes > c.most; {
		last := c.order.Remove(c.order.Back()).(*cached)
		delete(c.kept, last.key)
		c.bytes -= int64(cap(last.bytes))
	}
}

// takeRun returns a run of what key names that does not stand behind pos, or nil.
// It is the caller's until it is put back.
func (c *Cache) takeRun(key cacheKey, pos int64) *run {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range slices.Backward(c.runs) {
		if r.key == key && r.pos <= pos {
			c.runs = slices.Delete(c.runs, i, i+1)
			return r
		}
	}
	return nil
}

// putRun keeps a run that may go on, in the place of the one that was used
// longest ago.
func (c *Cache) putRun(r *run) {
	if c == nil {
		return
	}
	r.read, r.grow = nil, nil
	r.window.use(nil)
	c.mu.Lock()
	if len(c.runs) == maxRuns {
		c.runs[0].window.release()
		c.runs = slices.Delete(c.runs, 0, 1)
	}
	c.runs = append(c.runs, r)
	c.mu.Unlock()
	if c.windows.wanted() {
		c.dropRuns()
	}
}

// dropRuns lets go of the runs that nobody uses.
func (c *Cache) dropRuns() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.runs {
		r.window.release()
	}
	clear(c.runs)
	c.runs = c.runs[:0]
}
