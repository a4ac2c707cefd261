package fetch

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"
	"time"

	"distfs/content"
)

// hashStep is how much is hashed between two looks at what else there is.
const hashStep = 8 << 20

// hashMore starts the hashing where the front has moved on. One process on the
// store hashes an ingest; the others see what came of it. The lock is held.
func (p *pull) hashMore() {
	if p.hashing || p.verified || p.in == nil || p.file != nil || p.bad != nil || p.f.ctx.Err() != nil {
		return
	}
	if len(p.workers) == 0 && !p.wantsAll() {
		return
	}
	if p.hashed < p.desc.Size && !p.in.Has(p.hashed/content.ChunkSize, 1) {
		return
	}
	own, err := p.in.TryOwn()
	switch {
	case errors.Is(err, iofs.ErrExist):
		p.adopt()
		return
	case err != nil:
		p.f.opts.Log.Warn("hash", "digest", p.desc.Digest, "err", err)
		return
	case !own:
		p.foreign = true // look again soon what its owner made of it
		return
	}
	p.hashing = p.f.begin(func() {
		err := p.hash()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.hashing = false
		if err != nil {
			p.hashFailed(err)
		}
		p.announce()
		p.kick()
	})
}

// hash hashes along the contiguous front; at the object's end it compares, lets
// the readers go that wait for that, and puts the object into the store.
func (p *pull) hash() error {
	for {
		off, err := p.in.Advance(hashStep)
		if err != nil {
			return err
		}
		p.mu.Lock()
		stuck := off == p.hashed && off < p.desc.Size
		if !stuck {
			p.hashed, p.progress = off, time.Now()
		}
		p.mu.Unlock()
		if p.f.ctx.Err() != nil || stuck {
			return nil
		}
		if off == p.desc.Size {
			break
		}
	}
	if err := p.in.Verify(); err != nil {
		return err
	}
	wrong := p.vouch(p.in.File())
	if _, err := p.in.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if wrong != nil {
		return wrong
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openBlob()
}

// hashFailed tells a wrong digest from a disk that fails. The lock is held.
func (p *pull) hashFailed(err error) {
	if p.verified {
		p.uncommitted = err
		p.f.opts.Log.Warn("verified, but not kept", "err", p.named(err))
		return
	}
	if _, ok := errors.AsType[*shownError](err); ok {
		p.bad = err
		p.f.opts.Log.Error("wrong bytes", "origin", p.key.origin, "err", p.named(err))
		p.disown()
		return
	}
	if _, ok := errors.AsType[*content.MismatchError](err); !ok {
		p.bad = &kindError{err, syscall.EIO}
		p.f.opts.Log.Error("thrown away", "err", p.named(err))
		p.discard()
		p.disown()
		return
	}
	again := p.in.Resumed() && !p.served && len(p.shown) == 0
	p.discard()
	if again {
		p.f.opts.Log.Warn("what an earlier run left did not match its digest: fetched once more", "err", p.named(err))
		p.again()
		return
	}
	p.bad = err
	p.f.opts.Log.Error("wrong bytes", "origin", p.key.origin, "err", p.named(err))
	p.disown()
}

// discard throws the bytes away, for every process that has them open.
func (p *pull) discard() {
	if err := p.in.Discard(); err != nil {
		p.f.opts.Log.Warn("discard", "digest", p.desc.Digest, "err", err)
	}
}

// again begins from zero. No reader has seen a byte of what was there. The lock
// is held.
func (p *pull) again() {
	p.in.Close()
	p.in, p.hashed, p.seen, p.verified = nil, 0, 0, false
	if err := p.open(); err != nil {
		p.bad = err
	}
}

// disown ends what is under way and lets the next Open begin anew. The lock is held; the Fetcher's is
// taken by somebody who holds none.
func (p *pull) disown() {
	for w := range p.workers {
		w.cancel(p.bad)
	}
	p.f.begin(func() {
		p.f.mu.Lock()
		defer p.f.mu.Unlock()
		if p.f.pulls[p.key] == p {
			delete(p.f.pulls, p.key)
		}
	})
}

// syncMore makes what arrived survive a power cut, every 64 MiB or 5 s and when
// nothing more comes. The lock is held.
func (p *pull) syncMore() {
	if p.syncing || p.in == nil || p.file != nil || p.verified || p.bad != nil || !p.unsynced {
		return
	}
	if !p.in.Due() && (len(p.workers) > 0 || p.wantsAll()) {
		return
	}
	p.unsynced = false
	in := p.in
	p.syncing = p.f.begin(func() {
		err := in.Checkpoint()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.syncing = false
		if err != nil && p.bad == nil && p.file == nil {
			// What an fsync could not write may be gone (and so may what it wrote before).
			p.bad = &kindError{err, syscall.EIO}
			p.f.opts.Log.Error("thrown away", "err", p.named(err))
			p.discard()
			p.disown()
		}
		p.announce()
		p.kick()
	})
}
