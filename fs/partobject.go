package fs

import (
	"context"
	"os"
)

// A partObject is a file's content that is no object of its own, but read from its layer
// each time: it is known by no digest, as of a sparse file whose holes are too large to be
// hashed, or kept with the rest of the layer.
type partObject struct{ part layerPart }

var _ = Object(partObject{})

func (o partObject) Size() int64 { return o.part.inode.Size }

func (o partObject) Here(int64, int64) bool { return false }

// Wait has the bytes come before a buffer is taken for them: see replies.
func (o partObject) Wait(ctx context.Context, off, n int64) error { return o.part.Wait(ctx, off, n) }

func (o partObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.part.ReadAt(ctx, p, off)
}

func (o partObject) Verify(context.Context) error { return nil }

func (o partObject) Bad() error { return nil }

func (o partObject) File() *os.File { return nil }

func (o partObject) Close() error { return nil }
