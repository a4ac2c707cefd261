package fetch

import (
	"context"
	"fmt"
	"io"
	iofs "io/fs"
	"math"
	"os"
	"sync"

	"distfs/content"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Object is an open object of a repository. It is safe for use by many
// goroutines; who opened it closes it, after which it is not used.
type Object struct {
	p     *pull
	close sync.Once
}

// Open opens the object desc of loc. Of desc the digest is needed; a size or
// media type that is not known there is found out, as by Stat. Open does not
// wait for bytes; it starts the fetch of the whole where that is smaller than
// Options.FillBelow.
//
// An object is opened only after loc's own repository answered for it (but see
// Options.TakeWord): what a
// manifest says of it gives nobody bytes that another repository sent, now or
// while it is open.
func (f *Fetcher) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (*Object, error) {
	o, err := f.OpenSparse(ctx, loc, desc)
	if err == nil && (f.opts.FillBelow > o.Size() || f.opts.FillBelow == math.MaxInt64) {
		o.p.fillAll()
	}
	return o, err
}

// OpenSparse is Open for who reads here and there: it starts nothing.
func (f *Fetcher) OpenSparse(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (*Object, error) {
	_, recorded := f.answered(loc, desc.Digest)
	ask := !recorded && !f.opts.Offline && (!f.opts.TakeWord || f.holds(loc, desc.Digest))
	if unknownSize(desc) || ask {
		known, err := f.vouched(ctx, loc, desc)
		if err != nil {
			return nil, err
		}
		desc.Size = known.Size
		if desc.MediaType == "" {
			desc.MediaType = known.MediaType
		}
	}
	if f.opts.Offline && (!recorded || !f.holds(loc, desc.Digest)) {
		return nil, fmt.Errorf("%s in %s: offline: %w", desc.Digest, loc, iofs.ErrNotExist)
	}
	if recorded && isForeign(desc) {
		f.record(loc, desc) // as what it may come from urls for
	}
	p, err := f.pull(loc, desc, recorded || ask)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", desc.Digest, loc, err)
	}
	p.opened(ctx)
	return &Object{p: p}, nil
}

// unknownSize: only the empty content has the size 0.
func unknownSize(desc ocispec.Descriptor) bool {
	return desc.Size < 0 || desc.Size == 0 && desc.Digest != desc.Digest.Algorithm().FromBytes(nil)
}

// holds says whether bytes of dgst are here that are for loc's readers, or that are
// whole; online also whether they are on their way.
func (f *Fetcher) holds(loc locator.Locator, dgst digest.Digest) bool {
	if _, err := f.store.Stat(dgst); err == nil {
		return true
	}
	from := f.origin(loc, ocispec.Descriptor{Digest: dgst})
	if s, err := f.store.IngestStatus(dgst, from); err == nil && (s.Local > 0 || !f.opts.Offline) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls[pullKey{from, dgst}] != nil
}

// Local tells how many bytes of dgst are here for loc's readers.
func (f *Fetcher) Local(loc locator.Locator, dgst digest.Digest) (int64, content.Info) {
	if info, err := f.store.Stat(dgst); err == nil {
		return info.Size, info
	}
	s, err := f.store.IngestStatus(dgst, f.origin(loc, ocispec.Descriptor{Digest: dgst}))
	if err != nil {
		return 0, content.Info{}
	}
	return s.Local, content.Info{}
}

// Descriptor returns what is known of the object, its size for certain.
func (o *Object) Descriptor() ocispec.Descriptor { return o.p.desc }

// Size returns the object's size in bytes.
func (o *Object) Size() int64 { return o.p.desc.Size }

// Wait waits until the n bytes from off on are here, or cannot be had, and has
// them fetched ahead of what nobody waits for. Its error is that of the fetch.
// Bytes beyond the end are not waited for.
func (o *Object) Wait(ctx context.Context, off, n int64) error {
	n = min(n, o.Size()-off)
	if off < 0 || n <= 0 {
		return nil
	}
	defer o.p.reading(ctx, chunksOf(off, n))()
	return o.p.named(o.p.wait(ctx, off, n))
}

// ReadAt reads len(b) bytes from off on, waiting for them as Wait does. It
// reads fewer only at the object's end, with io.EOF. Before Verify returned nil
// they are what the transport delivered, and no more.
func (o *Object) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, iofs.ErrInvalid)
	}
	n := min(int64(len(b)), o.Size()-off)
	if n <= 0 {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	if err := o.Wait(ctx, off, n); err != nil {
		return 0, err
	}
	got, err := o.p.readAt(ctx, b[:n], off)
	if err != nil {
		return got, o.p.named(err)
	}
	if n < int64(len(b)) {
		return got, io.EOF
	}
	return got, nil
}

// Data returns the file that has the n bytes from off on, for which Wait was
// called: not to be read elsewhere, changed or closed. It is nil where they are
// not kept; ReadAt has them. What ReadAt says of bytes before Verify holds for
// these too.
func (o *Object) Data(off, n int64) *os.File {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	switch {
	case o.p.bad != nil || n <= 0:
		return nil
	case o.p.file != nil:
		return o.p.file
	case o.p.serves(chunksOf(off, n)):
		o.p.served = o.p.served || !o.p.verified
		return o.p.in.File()
	}
	return nil
}

// Verify fetches what is missing and waits until the whole digest matched.
// The error is syscall.EIO if it did not: then Bad says so for ever, and what
// arrived is thrown away.
func (o *Object) Verify(ctx context.Context) error {
	defer o.p.reading(ctx, o.p.everything())()
	return o.p.named(o.p.verify(ctx))
}

// Commit waits, as Verify does, and until the object lies in the store. The
// error is ErrNotKept where it does not come there.
func (o *Object) Commit(ctx context.Context) error { return o.p.named(o.p.commit(ctx)) }

// Bad returns why no byte of this Object may be served any more, or nil. A new
// Open begins anew.
func (o *Object) Bad() error {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return o.p.named(o.p.bad)
}

// File returns the object's file once it is whole, verified and in the store,
// else nil. It is open for reading until Close, and not for others to close.
func (o *Object) File() *os.File {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return o.p.file
}

// Close says that this opener reads no more. A whole fetch that was begun goes
// on without it.
func (o *Object) Close() error {
	o.close.Do(o.p.leave)
	return nil
}
