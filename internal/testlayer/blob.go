package testlayer

import (
	"bytes"
	"context"
)

// A Blob is a layer's bytes in memory, read as a layer.Blob.
type Blob []byte

// Size returns how many there are.
func (b Blob) Size() int64 { return int64(len(b)) }

// ReadAt is as io.ReaderAt's.
func (b Blob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return bytes.NewReader(b).ReadAt(p, off)
}
