package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Reader reads the content of a file out of a layer.
type Reader interface {
	// ReadAt reads as io.ReaderAt does, and ends with ctx. It sees to it itself that
	// it does not wait without progress for ever, and that what another try would
	// mend is tried again. Many goroutines may call it at once.
	ReadAt(ctx context.Context, p []byte, off int64) (n int, err error)
}

// OpenFile opens the content of a file of a tree: desc has its digest and size,
// layer is the digest of the layer of loc that has it, and src reads it from there.
// No repository is asked, and none is recorded to have answered: who opens a tree
// has seen to that.
//
// What is kept, of whatever layer, is open as File at once. Else a file of up to a
// chunk is read as a whole by who first reads of it, and served when its digest
// matched; a larger one by chunks, as any Object. Both are kept as what is derived:
// not synced, and evicted first. Bytes that did not match yet are for those alone
// who have the file of the same layer open.
//
// src is used until all who have that open closed it, and by those too who opened
// it with another one: it has to remain usable until the Fetcher is closed, or end
// with an error.
func (f *Fetcher) OpenFile(ctx context.Context, loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor, src Reader) (*Object, error) {
	p, err := f.openFile(loc, layer, desc, src)
	if err != nil {
		return nil, fmt.Errorf("%s of %s in %s: %w", desc.Digest, layer, loc, err)
	}
	p.opened(ctx)
	return &Object{p: p}, nil
}

func (f *Fetcher) openFile(loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor, src Reader) (*pull, error) {
	release, err := f.store.Hold(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer release()
	source := &layerFile{layer: layer, src: src}
	p := &pull{
		f: f, key: pullKey{layerOrigin(layer), desc.Digest}, loc: loc, lane: "layers of " + loc.Host, desc: desc,
		remote: source, source: source, sure: true, known: true,
	}
	// Not under the Fetcher's lock: one of an earlier boot is hashed.
	if err := p.openStored(); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	file := p.file
	shared, err := f.share(p)
	if shared != p && file != nil {
		file.Close()
	}
	return shared, err
}

// storedFile opens a file's content in the store, which may also be there as a
// blob; as such it is for those alone whom it was sent to.
func (f *Fetcher) storedFile(loc locator.Locator, dgst digest.Digest) (*os.File, error) {
	file, err := f.store.File(dgst)
	if !errors.Is(err, iofs.ErrNotExist) {
		return file, err
	}
	if _, err := f.store.Stat(dgst); err != nil {
		return nil, err
	}
	if _, ok := f.answered(loc, dgst); !ok {
		return nil, err
	}
	return f.store.Blob(dgst)
}

// LocalFile tells how many bytes of a file's content are kept for who reads it from
// that layer, all of it also for others. What was kept before the machine was booted
// counts, though it is hashed when it is opened.
func (f *Fetcher) LocalFile(loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor) int64 {
	if f.store.HasFile(desc.Digest) {
		return desc.Size
	}
	if _, ok := f.answered(loc, desc.Digest); ok {
		if _, err := f.store.Stat(desc.Digest); err == nil {
			return desc.Size
		}
	}
	s, err := f.store.IngestStatus(desc.Digest, layerOrigin(layer))
	if err != nil {
		return 0
	}
	return s.Local
}

// layerOrigin is the origin of the files of a layer.
func layerOrigin(layer digest.Digest) string { return "layer:" + layer.String() }

// derived says whether p is of a file of a layer.
func (p *pull) derived() bool { return p.source != nil }

// A layerFile is a file of a layer as a pull asks for it.
type layerFile struct {
	layer digest.Digest

	mu  sync.Mutex
	src Reader // guarded by mu
}

// replace has l read as o does, who was opened later and so is the less likely to
// be of no more use.
func (l *layerFile) replace(o *layerFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.src = o.src
}

func (l *layerFile) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	l.mu.Lock()
	src := l.src
	l.mu.Unlock()
	n, err := src.ReadAt(ctx, b, off)
	switch {
	case n == len(b):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, &layerError{err}
}

// Get opens a range. Nothing is read before the body is.
func (l *layerFile) Get(ctx context.Context, _ locator.Locator, _ ocispec.Descriptor, off, n int64) (*Body, error) {
	return &Body{ReadCloser: &layerBody{ctx, l, off, n}, Offset: off, Len: n, From: l.layer.String()}, nil
}

// A layerBody is a range of a layer's file.
type layerBody struct {
	ctx       context.Context //nolint:containedctx // of the Get that it answers
	file      *layerFile
	off, left int64
}

func (b *layerBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.file.readAt(b.ctx, p[:min(int64(len(p)), b.left)], b.off)
	b.off += int64(n)
	b.left -= int64(n)
	return n, err
}

func (b *layerBody) Close() error { return nil }

// A layerError is why a layer could not be read. What it is of kind is seen; what
// it says of the layer does not hold of the file, and is not found in it.
type layerError struct{ err error }

func (e *layerError) Error() string { return e.err.Error() }

func (e *layerError) Is(target error) bool { return errors.Is(e.err, target) }
