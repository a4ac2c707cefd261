package layer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/klauspost/compress/flate"
)

// How long spans are: a span is what is fetched and decoded for a byte of it. Of
// a deflated one the window is kept, up to 32 KiB.
const (
	storedSpan  = 1 << 20 // bytes of the blob
	deflateSpan = 2 << 20 // bytes of the stream, at least
	zstdSpan    = 1 << 20 // bytes of the stream, at least

	// The windows of a layer take up to so many bytes, and a part of its own length
	// besides: what is deflated to little but for its windows could make them as many
	// as it has bytes. Beyond that spans are as long as they get.
	freeWindows = 64 << 20
	windowPart  = 32
)

// A cutter makes spans of a blob while it is decompressed. Written to it are the
// bytes of the blob, as they are used up.
type cutter struct {
	spans []Span
	open  Span      // the span under way: how it begins
	sum   hash.Hash // of the bytes of it so far
	at    int64     // in the blob
	flate *flate.Writer

	windows int64 // bytes of those of the spans
}

func newCutter() *cutter { return &cutter{sum: sha256.New()} }

func (c *cutter) Write(p []byte) (int, error) {
	c.use(p)
	return len(p), nil
}

func (c *cutter) use(p []byte) {
	c.at += int64(len(p))
	c.sum.Write(p)
}

// cut ends the span under way at the byte end of the blob and begins the next. One
// that decodes to nothing is none.
func (c *cutter) cut(end int64, next Span) {
	if c.open.Len, c.open.Size = end-c.open.Off, next.Out-c.open.Out; c.open.Size > 0 {
		c.sum.Sum(c.open.Digest[:0])
		c.spans = append(c.spans, c.open)
	}
	c.sum.Reset()
	c.open = next
}

// finish returns the spans of a stream of that length.
func (c *cutter) finish(length int64) []Span {
	c.cut(c.at, Span{Out: length})
	return c.spans
}

// cutting returns the stream that r decompresses to, whose reader has c cut r into
// spans.
func cutting(r *bufio.Reader, format Format, c *cutter, w *window, grow func(size int64) error) io.Reader {
	switch format {
	case Gzip:
		c.open.Kind = GzipAt
		return newGunzip(r, deflateSpan, c, c.point)
	case Zstd:
		c.open.Kind = ZstdAt
		return newFrames(r, c, w, grow)
	}
	return reading(func(p []byte) (int, error) {
		if c.at-c.open.Off == storedSpan {
			c.cut(c.at, Span{Off: c.at, Out: c.at})
		}
		n, err := r.Read(p[:min(int64(len(p)), c.open.Off+storedSpan-c.at)])
		c.use(p[:n])
		return n, err
	})
}

// point may cut at a point of a gzip stream, in the midst of the byte partial if its
// bits are not all of one span.
func (c *cutter) point(p point, partial byte) error {
	if p.out == c.open.Out {
		return nil
	}
	next := Span{Kind: GzipAt, Off: p.in, Out: p.out}
	if !p.header {
		if c.windows > freeWindows+c.at/windowPart {
			return nil
		}
		window, err := c.deflate(p.window)
		if err != nil {
			return err
		}
		next.Kind, next.Bits, next.Window = Deflate, p.bits, window
		c.windows += int64(len(window))
	}
	end := p.in
	if p.bits > 0 {
		c.sum.Write([]byte{partial})
		end++
	}
	c.cut(end, next)
	return nil
}

func (c *cutter) deflate(window []byte) (_ []byte, err error) {
	var b bytes.Buffer
	if c.flate == nil {
		c.flate, err = flate.NewWriter(&b, flate.BestSpeed)
	} else {
		c.flate.Reset(&b)
	}
	if err == nil {
		_, err = c.flate.Write(window)
	}
	if err == nil {
		err = c.flate.Close()
	}
	return bytes.Clone(b.Bytes()), err
}
