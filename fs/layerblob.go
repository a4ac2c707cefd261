package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/layer"
	"distfs/locator"
)

// A layerBlob is a layer's bytes for who reads ranges of them. Its object stays open
// for a while, so that reads in sequence are one to who fetches them.
type layerBlob struct {
	s      *server
	size   int64
	object renewable[Object]
}

var _ = layer.Blob((*layerBlob)(nil))

func newLayerBlob(s *server, loc locator.Locator, desc ocispec.Descriptor) *layerBlob {
	b := &layerBlob{s: s, size: desc.Size}
	b.object.open = func(ctx context.Context) (Object, error) { return s.src.OpenSparse(ctx, loc, desc) }
	b.object.close = func(o Object) { o.Close() }
	b.object.spoilt = func(o Object) bool { return o.Bad() != nil }
	return b
}

func (b *layerBlob) Size() int64 { return b.size }

func (b *layerBlob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, bad, err := b.readOnce(ctx, p, off)
	if bad { // then another one is opened
		n, _, err = b.readOnce(ctx, p, off)
	}
	return n, b.s.lacking(err)
}

// readOnce also says whether the digest did not match.
func (b *layerBlob) readOnce(ctx context.Context, p []byte, off int64) (n int, bad bool, err error) {
	obj, release, err := b.object.use(ctx, &b.s.tasks)
	if err != nil {
		return 0, false, err
	}
	defer release()
	n, err = obj.ReadAt(ctx, p, off)
	if wrong := obj.Bad(); wrong != nil {
		return 0, true, wrong
	}
	return n, false, err
}

// settle has the layer's digest decide what is wrong where its index says something
// else than its bytes: wrong bytes, as what an ingest of before can have, are thrown
// away, and others are here for who reads again. It fetches all of the layer.
func (b *layerBlob) settle(ctx context.Context) error {
	obj, release, err := b.object.use(ctx, &b.s.tasks)
	if err != nil {
		return err
	}
	defer release()
	err = obj.Verify(ctx)
	if obj.Bad() != nil {
		return nil // who reads opens another one
	}
	return err
}

// lacking is err, but of another kind where it says that a layer is not there: that
// is no answer to whether a name is.
func (s *server) lacking(err error) error {
	switch {
	case !errors.Is(err, iofs.ErrNotExist):
		return err
	case s.opts.Offline:
		return fmt.Errorf("%v: %w", err, syscall.ENETUNREACH) //nolint:errorlint // of another kind
	}
	return fmt.Errorf("%v: %w", err, syscall.EIO) //nolint:errorlint // likewise
}

// A tocBlob reads what a table of contents is found by: the few bytes that it asks
// for, and no whole chunks.
type tocBlob struct{ l *layerFiles }

func (b tocBlob) Size() int64 { return b.l.desc.Size }

func (b tocBlob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return b.l.s.src.Range(ctx, b.l.loc, b.l.desc, p, off)
}
