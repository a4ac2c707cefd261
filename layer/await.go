package layer

import (
	"context"
	"errors"
	"fmt"
	"sort"
)

// Wait returns when what ReadAt takes the n bytes at off from is here and decoded: who
// reads next waits for nobody, unless that is much later. Its errors are those of ReadAt.
func (c *Content) Wait(ctx context.Context, ino *Inode, off, n int64) error {
	n = min(n, ino.Size-off)
	data := ino.Data()
	if data == nil {
		return c.await(ctx, ino.Offset+off, n)
	}
	i := sort.Search(len(data), func(i int) bool { return data[i].At+data[i].Length > off })
	for ; i < len(data) && data[i].At < off+n; i++ {
		s := &data[i]
		from, end := max(off, s.At), min(off+n, s.At+s.Length)
		if err := c.await(ctx, s.Offset+from-s.At, end-from); err != nil {
			return err
		}
	}
	return nil
}

// await is Wait for a part of the stream.
func (c *Content) await(ctx context.Context, off, n int64) error {
	if c.kept != nil && c.kept.Has(ctx, off, n) {
		return nil
	}
	spans := c.ix.Spans
	i := sort.Search(len(spans), func(i int) bool { return spans[i].Out+spans[i].Size > off })
	for ; i < len(spans) && spans[i].Out < off+n; i++ {
		if err := c.ready(ctx, i); err != nil {
			return c.named(i, err)
		}
	}
	return nil
}

// ready has the span i in memory, or verified if it is large.
func (c *Content) ready(ctx context.Context, i int) error {
	switch s := &c.ix.Spans[i]; {
	case s.Kind == Zeros:
		return nil
	case s.Large():
		return c.verified(ctx, i)
	case c.cache.get(c.key(i)) != nil:
		return nil
	}
	return c.Decode(ctx, i)
}

// verified returns when the large span i is.
func (c *Content) verified(ctx context.Context, i int) error {
	for {
		err := c.shared(ctx, i, func([]byte) {})
		if !errors.Is(err, errGivenUp) {
			return err
		}
	}
}

// named says which span of which layer an error is of.
func (c *Content) named(i int, err error) error {
	s := &c.ix.Spans[i]
	return fmt.Errorf("layer %s: span %d, %d bytes at %d: %w", c.id, i, s.Len, s.Off, err)
}
