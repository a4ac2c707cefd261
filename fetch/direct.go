package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Bytes that cannot be kept, because the disk is full or because a process that
// has claimed them stands still, are fetched for one read and forgotten. What
// remains of them is their hash: once the whole is here they are held against
// it, and who was shown other bytes gets an error at the end.

const (
	directFor  = 10 * time.Second // how long to serve so before trying to keep again
	maxDirect  = 8                // such fetches at a time, of all objects together
	maxStash   = 16               // answers that wait for their read
	maxShown   = 4096             // hashes that are remembered for an object
	maxDirectN = 4 << 20          // bytes of one such read
)

// A shown range was served without being kept.
type shown struct {
	off, n int64
	sum    [sha256.Size]byte
}

// A stashed answer is taken by the read that follows its wait.
type stashed struct {
	off int64
	b   []byte
}

// full says that the store takes no more bytes now.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// serveUnkept has bytes served without being kept for a while. The lock is held.
func (p *pull) serveUnkept(err error) {
	if p.unkept == nil {
		p.f.opts.Log.Warn("served without being kept", "digest", p.desc.Digest, "err", err)
	}
	p.unkept = fmt.Errorf("not kept: %w", err)
	p.direct = time.Now().Add(directFor)
	p.halted = true
}

// fetchDirect fetches the n bytes from off on for the read that follows. The
// lock is held, but not while it waits.
func (p *pull) fetchDirect(ctx context.Context, off, n int64) error {
	p.mu.Unlock()
	b, err := p.getDirect(ctx, off, n)
	p.mu.Lock()
	if err != nil {
		return err
	}
	if p.bad != nil || p.has(chunksOf(off, n)) {
		return p.bad // it was kept meanwhile, and is read from there
	}
	if len(p.stash) == maxStash {
		p.stash = p.stash[1:]
	}
	p.stash = append(p.stash, stashed{off, b})
	return nil
}

func (p *pull) getDirect(ctx context.Context, off, n int64) ([]byte, error) {
	if n > maxDirectN {
		return nil, &kindError{fmt.Errorf("%d bytes at once, and they cannot be kept", n), syscall.ENOSPC}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.f.opts.Timeout, errStalled(p.f.opts.Timeout))
	defer cancel()
	select {
	case p.f.direct <- struct{}{}:
		defer func() { <-p.f.direct }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.f.ctx.Done():
		return nil, context.Canceled
	}
	body, err := p.remote.Get(ctx, p.loc, p.desc, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if _, err := io.CopyN(io.Discard, body, off-body.Offset); err != nil {
		return nil, kind(ctx, err)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(body, b)
	return b, kind(ctx, err)
}

// takeDirect gives the stashed answer to the read that it was fetched for. The
// lock is held.
func (p *pull) takeDirect(b []byte, off int64) (int, error) {
	for i, s := range p.stash {
		if s.off != off || len(s.b) != len(b) {
			continue
		}
		p.stash = append(p.stash[:i], p.stash[i+1:]...)
		if len(p.shown) == maxShown {
			return 0, &kindError{fmt.Errorf("too much was served without being kept: %w", p.unkept), syscall.ENOSPC}
		}
		p.shown = append(p.shown, shown{off, int64(len(b)), sha256.Sum256(s.b)})
		return copy(b, s.b), nil
	}
	return 0, broken("bytes %d-%d are not here any more", off, off+int64(len(b))-1)
}

// vouch holds what was shown against the file, whose digest matched, and marks
// the pull as verified.
func (p *pull) vouch(file *os.File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for checked := 0; checked < len(p.shown); {
		more := p.shown[checked:]
		checked = len(p.shown)
		p.mu.Unlock()
		err := compareShown(file, more)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
	p.shown, p.stash = nil, nil
	p.verified = true
	p.announce()
	return nil
}

func compareShown(file *os.File, ranges []shown) error {
	for _, r := range ranges {
		b := make([]byte, r.n)
		if _, err := file.ReadAt(b, r.off); err != nil {
			return &kindError{err, syscall.EIO}
		}
		if sha256.Sum256(b) != r.sum {
			return &shownError{r.off, r.n}
		}
	}
	return nil
}

// A shownError says that a reader was shown bytes that are not the object's.
type shownError struct{ off, n int64 }

func (e *shownError) Error() string {
	return fmt.Sprintf("bytes %d-%d were served without being kept, and were wrong", e.off, e.off+e.n-1)
}

// Is makes it syscall.EIO.
func (e *shownError) Is(target error) bool { return target == syscall.EIO }
