package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
)

// A large span is never in memory as a whole, and yet no byte of it is served
// before its digest matched: it is read twice. The first time, verify keeps the
// digests of its pieces; from then on each piece is held against its own. A piece
// is of what the span's digest is of, the blob or what it decodes to.
const pieceSize = 1 << 20

// large reads all of p from the large span i at from.
func (c *Content) large(ctx context.Context, i int, p []byte, from int64) error {
	if err := c.verified(ctx, i); err != nil {
		return err
	}
	select {
	case c.runs <- struct{}{}:
		defer func() { <-c.runs }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		err := c.run(ctx, i, p, from)
		if !errors.Is(err, errGivenUp) {
			return err
		}
	}
}

// run is large with a run that is kept, or a new one.
func (c *Content) run(ctx context.Context, i int, p []byte, from int64) (err error) {
	r := c.cache.takeRun(c.key(i), from)
	if r == nil {
		r = &run{key: c.key(i), span: &c.ix.Spans[i], window: c.cache.window()}
		if r.span.Kind == Stored {
			r.pos = from - from%pieceSize
		}
	}
	work, end := r.window.lend(ctx)
	defer func() { err = end(err) }()
	r.read = func(p []byte, off int64) error { return r.window.read(work, c.blob, p, off) }
	r.grow = r.window.growing(work)
	if r.decoded == nil {
		if err := r.start(c.known(i)); err != nil {
			return err
		}
	}
	n, err := io.CopyN(io.Discard, r.decoded, from-r.pos)
	if err == nil {
		var m int
		m, err = io.ReadFull(r.decoded, p)
		n += int64(m)
	}
	if err != nil {
		return r.span.broken(err)
	}
	r.pos += n
	c.cache.putRun(r)
	return nil
}

// known returns the digests of the pieces of the span i, nil before verify.
func (c *Content) known(i int) []sum {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pieces[i]
}

// verify reads the large span i to its end.
func (c *Content) verify(ctx context.Context, i int) (err error) {
	if c.known(i) != nil {
		return nil
	}
	s := &c.ix.Spans[i]
	w := c.cache.window()
	defer w.release()
	work, end := w.lend(ctx)
	defer func() { err = end(err) }()
	read := func(p []byte, off int64) error { return w.read(work, c.blob, p, off) }
	raw := &rawRange{off: s.Off, end: s.Off + s.Len, read: read}
	r := io.Reader(raw)
	if s.Decoded {
		if s.Kind == ZstdAt { // all of the blob's comes before memory is taken for it
			ahead := rawRange{off: raw.off, end: raw.end, read: read}
			if _, err := io.CopyBuffer(io.Discard, &ahead, make([]byte, aheadSize)); err != nil {
				return s.broken(err)
			}
		}
		if r, err = s.decoder(bufio.NewReaderSize(raw, aheadSize), new(gunzip), w, w.growing(work)); err != nil {
			return err
		}
	}
	whole, buf, pieces := sha256.New(), make([]byte, pieceSize), []sum(nil)
	for left := s.digested(); left > 0; {
		piece := buf[:min(left, pieceSize)]
		if _, err := io.ReadFull(r, piece); err != nil {
			return s.broken(err)
		}
		whole.Write(piece)
		pieces = append(pieces, sha256.Sum256(piece))
		left -= int64(len(piece))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := s.check(sum(whole.Sum(nil))); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pieces[i] = pieces
	return nil
}

// digested is how many bytes the digest of s is of.
func (s *Span) digested() int64 {
	if s.Decoded {
		return s.Size
	}
	return s.Len
}

// A run is the decoding of a large span, which goes on from read to read.
type run struct {
	key     cacheKey
	span    *Span
	window  *window
	read    func(p []byte, off int64) error // from the blob, for the reader at hand
	grow    func(size int64) error          // of window, likewise
	decoded io.Reader
	pos     int64 // of decoded, in the decoded span
}

// start begins at pos, which only of a Stored span is not 0 and then is where a
// piece begins.
func (r *run) start(pieces []sum) (err error) {
	s := r.span
	if s.Kind == Stored && s.Len != s.Size {
		return s.sizeError()
	}
	raw := &rawRange{off: s.Off + r.pos, end: s.Off + s.Len, read: func(p []byte, off int64) error { return r.read(p, off) }}
	check := &checked{span: s, pieces: pieces[r.pos/pieceSize:], left: s.digested() - r.pos}
	grow := func(size int64) error { return r.grow(size) }
	if !s.Decoded {
		check.r = raw
		r.decoded, err = s.decoder(bufio.NewReader(check), new(gunzip), r.window, grow)
		return err
	}
	if check.r, err = s.decoder(bufio.NewReaderSize(raw, aheadSize), new(gunzip), r.window, grow); err != nil {
		return err
	}
	r.decoded = check
	return nil
}

// rawRange reads a range of the blob.
type rawRange struct {
	off, end int64
	read     func(p []byte, off int64) error
}

func (r *rawRange) Read(p []byte) (int, error) {
	if r.off >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.off)]
	if err := r.read(p, r.off); err != nil {
		return 0, &blobError{err}
	}
	r.off += int64(len(p))
	return len(p), nil
}

// checked passes on pieces that are right.
type checked struct {
	r      io.Reader
	span   *Span
	pieces []sum
	left   int64 // bytes that are still to be read
	piece  bytes.Reader
	buf    []byte
}

func (c *checked) Read(p []byte) (int, error) {
	if c.piece.Len() == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	return c.piece.Read(p)
}

func (c *checked) next() error {
	if c.left == 0 {
		return io.EOF
	}
	if c.buf == nil {
		c.buf = make([]byte, pieceSize)
	}
	b := c.buf[:min(c.left, pieceSize)]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	if sha256.Sum256(b) != c.pieces[0] {
		return &blobError{&DamageError{errors.New("it is not what it was when its digest matched")}}
	}
	c.pieces, c.left = c.pieces[1:], c.left-int64(len(b))
	c.piece.Reset(b)
	return nil
}
