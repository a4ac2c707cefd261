package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// An object is one open of a blob.
type object struct {
	b    *blob
	once sync.Once
}

var errMismatch = fmt.Errorf("the digest does not match: %w", syscall.EIO)

func (o *object) Size() int64 { return int64(len(o.b.content)) }

func (o *object) Bad() error {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	return o.b.bad
}

func (o *object) File() *os.File {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	return o.b.file
}

func (o *object) Close() error {
	o.once.Do(func() { o.b.edit(func(b *blob) { b.opens-- }) })
	return nil
}

func (o *object) Here(off, n int64) bool {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	return o.b.fetch(off/mib, (off+n+mib-1)/mib, false)
}

func (o *object) Wait(ctx context.Context, off, n int64) error {
	o.b.edit(func(b *blob) { b.waiting++ })
	defer func() { o.b.edit(func(b *blob) { b.waiting-- }) }()
	for {
		o.b.mu.Lock()
		change, err := o.b.change, errors.Join(o.b.fail, o.b.bad)
		ready := o.b.fetch(off/mib, (off+n+mib-1)/mib, err == nil)
		o.b.mu.Unlock()
		switch {
		case ready:
			return o.Bad()
		case err != nil:
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch says whether the MiBs are here, and gets them if that works and they are
// not gated.
func (b *blob) fetch(first, end int64, works bool) bool {
	if b.file != nil {
		return true
	}
	for i := first; i < end; i++ {
		if works && !b.gated {
			b.arrived[i] = true
		}
		if !b.arrived[i] {
			return false
		}
	}
	return true
}

func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), o.Size())
	if err := o.Wait(ctx, off, end-off); err != nil {
		return 0, err
	}
	if f := o.File(); f != nil {
		return f.ReadAt(p, off)
	}
	n := copy(p, o.b.content[off:end])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (o *object) Verify(ctx context.Context) error {
	o.b.edit(func(b *blob) { b.verifying++ })
	defer func() { o.b.edit(func(b *blob) { b.verifying-- }) }()
	if err := o.Wait(ctx, 0, o.Size()); err != nil {
		return err
	}
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	if o.b.desc.Digest.Algorithm().FromBytes(o.b.content) != o.b.desc.Digest {
		o.b.bad = errMismatch
		return o.b.bad
	}
	return o.b.commit()
}
