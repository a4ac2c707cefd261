package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"
	"time"

	"distfs/content"
)

// hashStep is how much is hashed between two looks at what else there is.
const hashStep = 8 << 20

// hashPace is what any machine hashes, in bytes a second.
const hashPace = 128 << 20

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
	case !own && !p.ownerStands():
		p.foreign = true // look again soon what its owner made of it
		return
	}
	in := p.in
	p.hashing = p.f.begin(func() {
		err := p.hash()
		if err != nil && !p.isVerified() {
			p.discard(in)
		}
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

// ownerStands says whether the process that hashes the object has had more than
// the time for it since all was here. The lock is held.
func (p *pull) ownerStands() bool {
	patience := min(stallAfter+time.Duration(p.desc.Size/hashPace)*time.Second, p.f.opts.Timeout/2)
	return p.whole() && time.Since(p.progress) > patience
}

func (p *pull) isVerified() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verified
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
		if !stuck {
			p.tell("hashed", span{0, (off + content.ChunkSize - 1) / content.ChunkSize})
		}
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
	p.tell("verified", p.everything())
	wrong := p.vouch(p.in.File())
	if _, err := p.in.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	p.tell("committed", p.everything())
	if wrong != nil {
		return wrong
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openStored()
}

// hashFailed tells a wrong digest from a disk that fails. The bytes have been
// thrown away. The lock is held.
func (p *pull) hashFailed(err error) {
	if p.verified {
		p.uncommitted = err
		p.f.opts.Log.Warn("verified, but not kept", "err", p.named(err))
		return
	}
	_, lied := errors.AsType[*shownError](err)
	_, wrong := errors.AsType[*content.MismatchError](err)
	if !lied && !wrong {
		p.bad = &kindError{err, syscall.EIO}
		p.f.opts.Log.Error("thrown away", "err", p.named(err))
		p.disown()
		return
	}
	others := p.distrust()
	if wrong && (p.in.Resumed() || others) && !p.seenBytes() {
		p.f.opts.Log.Warn("wrong bytes, which nobody has seen: fetched once more", "origin", p.key.origin, "err", p.named(err))
		p.again()
		return
	}
	p.bad = err
	p.f.opts.Log.Error("wrong bytes", "origin", p.key.origin, "err", p.named(err))
	p.disown()
}

// discard throws the bytes away, for every process that has them open. It may
// wait for one that stands still: the lock is not held.
func (p *pull) discard(in *content.Ingest) {
	if err := in.Discard(); err != nil && !errors.Is(err, os.ErrClosed) {
		p.f.opts.Log.Warn("discard", "digest", p.desc.Digest, "err", err)
	}
}

// throwAway has the bytes thrown away by somebody who holds no lock. The lock is
// held.
func (p *pull) throwAway() {
	in := p.in
	if in == nil {
		return
	}
	began := p.f.begin(func() {
		p.discard(in)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.discarding--
		p.kick() // which was left open for it
	})
	if began {
		p.discarding++
	}
}

// again begins from zero. No reader has seen a byte of what was there, and it
// was thrown away. The lock is held.
func (p *pull) again() {
	for w := range p.workers { // one may still read past what is here
		w.cancel(context.Canceled)
	}
	p.in.Close()
	p.in, p.hashed, p.seen, p.verified = nil, 0, 0, false
	p.open()
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
		p.f.part(p)
	})
}

// syncMore makes what arrived survive a power cut: when it is due, and when nothing
// more comes. The lock is held.
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
		if err != nil {
			p.discard(in)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.syncing = false
		if err != nil && p.in == in && p.bad == nil && p.file == nil { // in may have been closed, and begun anew
			// What an fsync could not write may be gone (and so may what it wrote before).
			p.bad = &kindError{err, syscall.EIO}
			p.f.opts.Log.Error("thrown away", "err", p.named(err))
			p.disown()
		}
		p.announce()
		p.kick()
	})
}
