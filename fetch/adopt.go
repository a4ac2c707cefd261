package fetch

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"

	"distfs/content"
)

// adopt takes the blob that another process, or another origin's pull, put into
// the store. Where readers here have seen bytes of this pull's own that nobody
// verified, these are held against the blob first: else a reader who began with
// wrong bytes would end right. The lock is held.
func (p *pull) adopt() {
	blob, err := p.stored()
	if err != nil {
		p.f.opts.Log.Warn("open", "err", p.named(err))
		return
	}
	if len(p.shown) == 0 && (!p.served || p.in.State() == content.Committed) {
		p.file, p.verified = blob, true
		p.announce()
		return
	}
	p.hashing = p.f.begin(func() {
		err := p.compare(blob)
		if err == nil {
			err = p.vouch(blob)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.hashing = false
		if err == nil {
			p.file = blob
		} else {
			blob.Close()
			p.bad = err
			p.f.opts.Log.Error("wrong bytes", "origin", p.key.origin, "err", p.named(err))
			p.disown()
		}
		p.announce()
		p.kick()
	})
	if !p.hashing {
		blob.Close()
	}
}

// compare holds every chunk that the ingest has against the blob. None is added
// to it any more.
func (p *pull) compare(blob *os.File) error {
	ours, theirs := make([]byte, content.ChunkSize), make([]byte, content.ChunkSize)
	for c := range p.chunks() {
		if !p.in.Has(c, 1) {
			continue
		}
		n := p.offset(c+1) - p.offset(c)
		if _, err := p.in.ReadAt(ours[:n], p.offset(c)); err != nil {
			return &kindError{err, syscall.EIO}
		}
		if _, err := blob.ReadAt(theirs[:n], p.offset(c)); err != nil {
			return &kindError{err, syscall.EIO}
		}
		if !bytes.Equal(ours[:n], theirs[:n]) {
			return broken("the bytes of chunk %d are not those that the digest names", c)
		}
	}
	return nil
}

// thrownAway is when the ingest was ended elsewhere: because the blob is there,
// from another origin, or because its bytes did not match. The lock is held.
func (p *pull) thrownAway() {
	blob, err := p.stored()
	switch {
	case err == nil:
		blob.Close()
		p.adopt()
		return
	case !errors.Is(err, iofs.ErrNotExist):
		p.bad = &kindError{fmt.Errorf("store: %w", err), syscall.EIO}
	case !p.seenBytes() && len(p.workers) == 0:
		p.again()
	default:
		p.bad = broken("thrown away by another process: the bytes did not match")
	}
	if p.bad != nil {
		p.disown()
	}
	p.announce()
}
