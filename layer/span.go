package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"syscall"

	"github.com/klauspost/compress/flate"
)

// wholeSpan bounds in bytes a span that is held in memory as a whole, as it lies
// in the blob and decoded. A larger one is streamed.
const wholeSpan = 8 << 20

// Large says whether the span is decoded from its start for each who reads in it, and
// never held as a whole.
func (s *Span) Large() bool { return s.Size > wholeSpan || s.Len > wholeSpan }

// Verifies says whether a file is held against its own digest when its span is.
func (ix *Index) Verifies(ino *Inode) bool {
	i := sort.Search(len(ix.Spans), func(i int) bool { return ix.Spans[i].Out >= ino.Offset })
	if i == len(ix.Spans) || ino.Data() != nil {
		return false
	}
	s := &ix.Spans[i]
	return s.Out == ino.Offset && s.Size == ino.Size && s.Decoded && s.Digest == ino.Digest
}

// Streamed says whether there are parts of the stream that are so large that to read in
// them is to decompress them from their start: a zstd of one frame, most often.
func (ix *Index) Streamed() bool {
	return slices.ContainsFunc(ix.Spans, func(s Span) bool { return s.Kind != Stored && s.Kind != Zeros && s.Large() })
}

type sum = [sha256.Size]byte

// load returns what the span s decodes to.
func (c *Content) load(ctx context.Context, s *Span) ([]byte, error) {
	raw := c.buffers.get(s.Len)
	if s.Kind != Stored {
		defer c.buffers.put(raw)
	}
	if err := readFull(ctx, c.blob, raw, s.Off); err != nil {
		return nil, err
	}
	if !s.Decoded {
		if err := s.check(sha256.Sum256(raw)); err != nil {
			return nil, err
		}
	}
	if s.Kind == Stored {
		if s.Size != s.Len {
			return nil, s.sizeError()
		}
		if s.Decoded {
			return raw, s.check(sha256.Sum256(raw))
		}
		return raw, nil
	}
	if s.Kind == ZstdAt && !s.Decoded {
		return c.unzstd(s, raw)
	}
	z := c.gunzips.Get().(*gunzip)
	defer c.gunzips.Put(z)
	w := c.cache.window()
	defer w.release()
	decoder, err := s.decoder(bytes.NewReader(raw), z, w, w.growing(ctx))
	if err != nil {
		return nil, err
	}
	b := c.buffers.get(s.Size)
	if _, err := io.ReadFull(decoder, b); err != nil {
		return nil, s.broken(err)
	}
	if s.Decoded {
		return b, s.check(sha256.Sum256(b))
	}
	return b, nil
}

// unzstd decodes a small span of whole frames at once: then it takes no window beside
// what it decodes to, however large a one the frames ask for. (A chunk of a table of
// contents may be a part of a frame that is flushed and not ended.)
func (c *Content) unzstd(s *Span, raw []byte) ([]byte, error) {
	z, err := c.zstd()
	if err != nil {
		return nil, err
	}
	b, err := z.DecodeAll(raw, c.buffers.get(s.Size)[:0])
	switch {
	case err != nil:
		return nil, s.broken(err)
	case int64(len(b)) != s.Size:
		return nil, s.sizeError()
	}
	return b, nil
}

// readFull reads all of p from the blob. What ends before it is EIO.
func readFull(ctx context.Context, blob Blob, p []byte, off int64) error {
	n, err := blob.ReadAt(ctx, p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return &DamageError{fmt.Errorf("the blob ends at %d", off+int64(n))}
	}
	return err
}

// decoder returns a reader of what the span decodes to, of whose bytes in the blob
// r is at the first. It may be z. w and grow are those of newFrames.
func (s *Span) decoder(r io.Reader, z *gunzip, w *window, grow func(size int64) error) (io.Reader, error) {
	decoder, err := s.decompress(r, z, w, grow)
	if err == nil && s.Skip > 0 {
		_, err = io.CopyN(io.Discard, decoder, s.Skip)
	}
	if err != nil {
		return nil, s.broken(err)
	}
	return decoder, nil
}

func (s *Span) decompress(r io.Reader, z *gunzip, w *window, grow func(size int64) error) (io.Reader, error) {
	switch s.Kind {
	case Stored:
		return r, nil
	case Deflate:
		window, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(s.Window)), 32<<10))
		if err != nil {
			return nil, err
		}
		z.resume(r, point{bits: s.Bits, window: window})
		return z, nil
	case GzipAt:
		z.resume(r, point{header: true})
		return z, nil
	case ZstdAt:
		return newFrames(bufio.NewReader(r), nil, w, grow), nil
	}
	return nil, syscall.EINVAL
}

func (s *Span) check(got sum) error {
	if got == s.Digest {
		return nil
	}
	of := "it"
	if s.Decoded {
		of = "what it decodes to"
	}
	return &DamageError{fmt.Errorf("%s has the digest sha256:%x, want sha256:%x", of, got, s.Digest)}
}

func (s *Span) sizeError() error {
	return &DamageError{fmt.Errorf("it decodes to other than %d bytes", s.Size)}
}

// broken makes of what a decoder says an error of the span. What the blob says
// stays as it is.
func (s *Span) broken(err error) error {
	var of *blobError
	switch {
	case errors.As(err, &of):
		return of.error
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.sizeError()
	}
	return &DamageError{err}
}

// A DamageError says that a blob is not what its Index says: one of them is wrong. It
// is syscall.EIO.
type DamageError struct{ Err error }

func (e *DamageError) Error() string { return e.Err.Error() }
func (e *DamageError) Unwrap() error { return e.Err }

// Is makes it syscall.EIO.
func (e *DamageError) Is(target error) bool { return target == syscall.EIO }

// A blobError is an error of the blob that went through a decoder.
type blobError struct{ error }
