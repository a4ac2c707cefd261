package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"sync"

	"distfs/content"
)

// A file of a layer that has no more than a chunk is read as a whole, by who asks
// for it and for all who ask meanwhile, without a goroutine of its own; it is in
// memory until its digest matched and it is kept. Where it cannot be kept it goes
// the way of what is served so: the few chunks that were read last stay in memory,
// and what is read again is held against the hash.

// maxLoads is how many are in memory at a time, of the layers of a host: 16 MiB.
const maxLoads = 16

var loadBuffers = sync.Pool{New: func() any { return new([content.ChunkSize]byte) }}

// small says whether p is of a file that is read as a whole.
func (p *pull) small() bool { return p.derived() && p.desc.Size <= content.ChunkSize }

// load has the file here: kept, or its hash known.
func (p *pull) load(ctx context.Context) error {
	if done, err := p.loaded(); done || err != nil {
		return err
	}
	_, err := p.loading.do(ctx, "", func() (struct{}, error) { return struct{}{}, p.loadNow(ctx) })
	return err
}

func (p *pull) loaded() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file != nil || p.sums != nil && p.servesUnkept(), p.bad
}

func (p *pull) loadNow(ctx context.Context) error {
	if done, err := p.loaded(); done || err != nil {
		return err
	}
	file, err := p.stored() // read from another layer since, or by another process
	if errors.Is(err, iofs.ErrNotExist) {
		file, err = p.readSmall(ctx)
	}
	if file == nil || err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released { // by Close of the Fetcher
		file.Close()
		return context.Canceled
	}
	p.file, p.verified = file, true
	return nil
}

// readSmall reads and keeps the file. It is nil where it could not be kept.
func (p *pull) readSmall(ctx context.Context) (*os.File, error) {
	leave, err := p.f.loads.enter(ctx, p.lane)
	if err != nil {
		return nil, err
	}
	defer leave()
	buf := loadBuffers.Get().(*[content.ChunkSize]byte)
	defer loadBuffers.Put(buf)
	b := buf[:p.desc.Size]
	if _, err := p.source.readAt(ctx, b, 0); err != nil {
		return nil, kind(ctx, err)
	}
	switch err := p.keepSmall(b); {
	case err == nil:
		return p.stored()
	case isMismatch(err):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.spoil(err)
		return nil, err
	default:
		p.leaveLoose(b, err)
		return nil, nil //nolint:nilnil // it is served all the same
	}
}

// keepSmall keeps b, which is all of the file. With any error but that of a wrong
// digest b is right.
func (p *pull) keepSmall(b []byte) error {
	if err := p.f.mayKeep(); err != nil {
		if got := p.desc.Digest.Algorithm().FromBytes(b); got != p.desc.Digest {
			return &content.MismatchError{Ref: p.name(), Want: p.desc.Digest, Got: got}
		}
		return err
	}
	err := p.f.store.KeepFile(p.desc.Digest, b)
	if full(err) && p.f.room(int64(len(b))) {
		err = p.f.store.KeepFile(p.desc.Digest, b)
	}
	if err == nil {
		p.f.grew(int64(len(b)))
	}
	return err
}

func isMismatch(err error) bool {
	_, wrong := errors.AsType[*content.MismatchError](err)
	return wrong
}

// leaveLoose has b served, which could not be kept.
func (p *pull) leaveLoose(b []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums = make([]sum, p.chunks())
	if len(b) > 0 {
		p.sums[0] = sum(sha256.Sum256(b))
		p.f.loose.put(looseKey{p, 0}, append([]byte(nil), b...))
	}
	p.serveUnkept(err)
}

// waitSmall waits until the file is here or may be served without being kept.
func (p *pull) waitSmall(ctx context.Context, s span) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil || p.file != nil {
		return p.bad
	}
	return p.awaitUnkept(ctx, s)
}

// commitSmall waits until the file lies in the store.
func (p *pull) commitSmall(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return fmt.Errorf("%w: %w", ErrNotKept, errors.Unwrap(p.unkept))
	}
	return nil
}
