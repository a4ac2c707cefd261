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

// scan reads all of the layer, and returns its index once the layer's digest matched.
// Where it did not, that is tried once more: wrong bytes can be those that an ingest had
// from before, or that one of several sources sent, and then others come.
func (l *layerFiles) scan(ctx context.Context) (*layer.Index, error) {
	ix, bad, err := l.scanOnce(ctx)
	if bad {
		ix, _, err = l.scanOnce(ctx)
	}
	return ix, err
}

// scanOnce is scan, and says whether the digest did not match.
func (l *layerFiles) scanOnce(ctx context.Context) (_ *layer.Index, bad bool, _ error) {
	obj, err := l.s.src.Open(ctx, l.loc, l.desc)
	if err != nil {
		return nil, false, err
	}
	defer obj.Close()
	r := &objectReader{ctx: ctx, obj: obj}
	ix, unreadable := layer.MakeIndex(ctx, r, &layer.Options{TOC: l.desc.Annotations[layer.AnnotationTOC]})
	if err = r.err; err == nil {
		err = obj.Verify(ctx) // of a layer that can't be read too: the bytes can be to blame
	}
	switch wrong := obj.Bad(); {
	case wrong != nil:
		return nil, true, wrong
	case err != nil:
		return nil, false, err
	case unreadable != nil && ctx.Err() == nil:
		return nil, false, fmt.Errorf("%v: %w", unreadable, syscall.EIO) //nolint:errorlint // of whatever kind it is: the layer can't be read
	}
	return ix, false, unreadable
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
