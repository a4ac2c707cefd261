package fetch

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"time"

	"distfs/content"
)

// open has the ingest opened, where that was not done. It does not wait: a
// process that stands still can hold an ingest's structure, and who opens other
// objects must not wait for that. The lock is held.
func (p *pull) open() {
	if p.in != nil || p.file != nil || p.opening || p.bad != nil || p.released || time.Now().Before(p.unopened) {
		return
	}
	p.openErr = nil
	p.opening = p.f.begin(func() {
		in, file, err := p.openIngest()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opening = false
		p.hasOpened(in, file, err)
		p.announce()
		p.kick()
	})
}

// hasOpened takes what open found. The lock is held.
func (p *pull) hasOpened(in *content.Ingest, file *os.File, err error) {
	switch {
	case err != nil:
		p.openErr, p.unopened = err, time.Now().Add(restFor)
		if p.unkept != nil && p.cannotKeep(err) {
			p.serveUnkept(err) // still
		}
		if p.fill && !p.f.sayFull(err) {
			p.f.opts.Log.Warn("fetch not begun", "digest", p.desc.Digest, "err", err)
		}
		p.fill = false // the first read says so too
	case file != nil:
		p.file, p.verified = file, true
	default:
		p.in, p.progress = in, time.Now()
		if p.remote == nil && !p.whole() {
			p.fill = false
		}
	}
}

// openIngest opens the blob or, where there is none, its ingest. No lock is held.
func (p *pull) openIngest() (*content.Ingest, *os.File, error) {
	want := content.Expect{Ref: p.name(), Digest: p.desc.Digest, Origin: p.key.origin, Total: p.desc.Size, Derived: p.derived()}
	in, err := p.f.store.Ingest(want)
	if full(err) && p.f.room(content.ChunkSize) {
		in, err = p.f.store.Ingest(want)
	}
	var conflict *content.ConflictError
	if errors.As(err, &conflict) && p.isSure() && p.remote != nil {
		// A digest has one size: what was begun with another one is worth nothing.
		p.f.opts.Log.Warn("begun anew", "origin", p.key.origin, "err", err)
		if err = p.f.store.Abort(want); err == nil {
			in, err = p.f.store.Ingest(want)
		}
	}
	if errors.Is(err, iofs.ErrExist) {
		file, err := p.stored()
		return nil, file, err
	}
	return in, nil, err
}

func (p *pull) isSure() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sure
}

// needOpen waits until the ingest or the blob is open; while bytes are served
// without being kept it only has that tried. The lock is held, but not while it
// waits.
func (p *pull) needOpen(ctx context.Context) error {
	p.open()
	if p.servesUnkept() {
		return nil
	}
	return p.await(ctx, p.moved, func() (bool, error) {
		if p.bad != nil {
			return false, p.bad
		}
		if p.in == nil && p.file == nil {
			return false, p.openErr
		}
		return true, nil
	})
}

// notBegun is why what is to be fetched once more is not, for who waited before.
// The lock is held.
func (p *pull) notBegun() error {
	if p.in != nil || p.file != nil {
		return nil
	}
	return p.openErr
}
