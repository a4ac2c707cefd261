package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/opencontainers/go-digest"

	"distfs/layer"
)

// scan reads all of the layer, and returns its index once the layer's digest matched. toc is
// the digest of the table of contents that makes it an eStargz, "" if it is none.
// Where the layer's digest did not match, that is tried once more: wrong bytes can be those
// that an ingest had from before, or that one of several sources sent, and then others come.
// The error is a *tarError where it is the layer's own.
func (l *layerFiles) scan(ctx context.Context, toc string) (*layer.Index, error) {
	ix, bad, err := l.scanOnce(ctx, toc)
	if bad {
		ix, _, err = l.scanOnce(ctx, toc)
	}
	return ix, err
}

// scanOnce is scan, and says whether the digest did not match.
func (l *layerFiles) scanOnce(ctx context.Context, toc string) (ix *layer.Index, bad bool, err error) {
	obj, err := l.s.src.Open(ctx, l.loc, l.desc)
	if err != nil {
		return nil, false, err
	}
	defer obj.Close()
	for {
		ix, bad, err = l.scanObject(ctx, obj, toc)
		if !errors.Is(err, errGivenUp) || ctx.Err() != nil {
			return ix, bad, err
		}
		if err := obj.Verify(ctx); err != nil { // what then is here needs to be waited for no more
			return nil, obj.Bad() != nil, err
		}
	}
}

// errGivenUp is that others wait for the memory that a scan takes, and it for its host.
var errGivenUp = errors.New("the memory for its decoder was wanted")

func (l *layerFiles) scanObject(ctx context.Context, obj Object, toc string) (_ *layer.Index, bad bool, err error) {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &objectReader{ctx: work, obj: obj}
	ix, unreadable := layer.MakeIndex(work, r, &layer.Options{
		TOC: toc, Cache: l.s.layers.spans, GiveUp: func() { cancel(errGivenUp) },
	})
	if unreadable != nil && context.Cause(work) == errGivenUp { //nolint:errorlint // it is this one
		return nil, false, errGivenUp
	}
	if err = r.err; err == nil {
		err = obj.Verify(ctx) // of a layer that can't be read too: the bytes can be to blame
	}
	switch wrong := obj.Bad(); {
	case wrong != nil:
		return nil, true, wrong
	case err != nil:
		return nil, false, err
	case unreadable != nil && ctx.Err() == nil:
		return nil, false, &tarError{unreadable}
	}
	return ix, false, unreadable
}

// A tarError is that a layer can't be read, for what is in it. It is syscall.EIO, of
// whatever kind its cause is.
type tarError struct{ cause error }

func (e *tarError) Error() string { return e.cause.Error() }

// Is makes it syscall.EIO.
func (e *tarError) Is(target error) bool { return target == syscall.EIO }

// hasNoTOC says whether a layer can't be read as the eStargz that its descriptor says it is.
func hasNoTOC(err error) bool {
	unread, ok := errors.AsType[*tarError](err)
	if !ok {
		return false
	}
	_, none := errors.AsType[*layer.TOCError](unread.cause)
	return none
}

// compareDiffID compares the digest of the layer's tar with the one that the image's
// config says, where it says one.
func (l *layerFiles) compareDiffID(ctx context.Context, ix *layer.Index) error {
	want, err := l.diffID(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("the image's config: %w", err)
	case want != "" && want.Algorithm() == digest.SHA256 && want != ix.DiffID:
		return fmt.Errorf("its tar has the digest %s, and not %s as the image's config says: %w", ix.DiffID, want, syscall.EIO)
	}
	return nil
}

// An objectReader reads an object from its start to its end.
type objectReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has none, and this one lives as long as one call
	obj Object
	off int64
	err error // that ended it
}

func (r *objectReader) Read(p []byte) (int, error) {
	if r.off == r.obj.Size() {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.obj.Size()-r.off)
	if r.err = r.obj.Wait(r.ctx, r.off, n); r.err != nil {
		return 0, r.err
	}
	m, err := r.obj.ReadAt(r.ctx, p[:n], r.off)
	r.off += int64(m)
	if errors.Is(err, io.EOF) && int64(m) == n {
		err = nil
	}
	r.err = err
	return m, err
}
