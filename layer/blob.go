package layer

import "context"

// A Blob is a layer's bytes as they lie in the registry. ReadAt is as
// io.ReaderAt's, and what it returns nobody has verified.
type Blob interface {
	Size() int64
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}
