package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What is held back until the digest matched: all of an object of up to
// holdBelow bytes, and the last holdEnd bytes of a larger one.
const (
	holdBelow = 4 << 20
	holdEnd   = 1 << 20
)

// holds says whether a read of size bytes that ends at end waits for the digest.
func (v Verify) holds(end, size int64) bool {
	switch {
	case size <= holdBelow, v == BeforeRead:
		return true
	case v == NeverHold:
		return false
	}
	return end > size-holdEnd
}

// A lazyReader reads what may not be here yet.
type lazyReader struct {
	n   *lazy
	obj Object
}

// read first waits for the bytes, without a buffer, then takes one and fills
// it. The digest is looked at last: once it did not match, no read that was
// under way ends well.
func (r lazyReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	if err := r.n.check(r.obj); err != nil {
		return nil, err
	}
	end := min(off+int64(n), r.obj.Size())
	if off >= end {
		return fuse.ReadResultData(nil), nil
	}
	if err := r.n.failures.find(off, end); err != nil && !r.ready(off, end) {
		return nil, err
	}
	result, err := r.wait(ctx, off, end)
	if bad := r.n.check(r.obj); bad != nil {
		if result != nil {
			result.Done()
		}
		return nil, bad
	}
	if err != nil {
		if ctx.Err() == nil {
			r.n.failures.add(off, end, err)
		}
		return nil, fmt.Errorf("at %d: %w", off, err)
	}
	return result, nil
}

// ready says whether off to end can be served at once. A readahead that failed
// may have begun with what is here.
func (r lazyReader) ready(off, end int64) bool {
	return !r.n.s.opts.Verify.holds(end, r.obj.Size()) && r.obj.Here(off, end-off)
}

func (r lazyReader) wait(ctx context.Context, off, end int64) (fuse.ReadResult, error) {
	var err error
	if r.n.s.opts.Verify.holds(end, r.obj.Size()) {
		err = r.obj.Verify(ctx)
	} else {
		err = r.obj.Wait(ctx, off, end-off)
	}
	if err != nil {
		return nil, err
	}
	return r.n.s.replies.fill(ctx, r.obj, off, end)
}

// fill reads obj[off:end] into a buffer. It is all of that or an error.
func (rs *replies) fill(ctx context.Context, obj Object, off, end int64) (fuse.ReadResult, error) {
	reply, err := rs.take(ctx, int(end-off))
	if err != nil {
		return nil, err
	}
	n, err := obj.ReadAt(ctx, reply.bytes, off)
	if n == len(reply.bytes) && (err == nil || errors.Is(err, io.EOF)) {
		return reply, nil
	}
	reply.Done()
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%d of %d bytes: %w: %w", n, len(reply.bytes), io.ErrUnexpectedEOF, syscall.EIO)
	}
	return nil, err
}

// failures are the ranges that failed a moment ago. When a readahead failed
// the kernel asks again, page by page; none of these waits its own time out.
type failures struct {
	mu   sync.Mutex
	last [8]failure // guarded by mu
	next int        // guarded by mu
}

type failure struct {
	off, end int64
	err      error
	until    time.Time
}

func (f *failures) add(off, end int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[f.next] = failure{off, end, err, time.Now().Add(failureHolds)}
	f.next = (f.next + 1) % len(f.last)
}

// find returns the error of a failure that touches [off, end). The log has it:
// who failed first said so.
func (f *failures) find(off, end int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.last {
		if l.err != nil && off < l.end && l.off < end && time.Now().Before(l.until) {
			return &saidError{l.err}
		}
	}
	return nil
}
