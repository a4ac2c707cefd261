package layer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// frames is the stream that a blob of zstd frames decompresses to. Frames do not
// depend on one another: between them it has its cutter cut.
//
// The formats are those of RFC 8878, section 3.1.
type frames struct {
	r       *bufio.Reader
	spans   *cutter // nil: nothing is cut
	decoder *zstd.Decoder
	window  *window // the decoder's
	grow    func(size int64) error

	within bool  // a frame
	out    int64 // bytes of the stream so far

	left     int64 // bytes of the frame up to the next thing to look at
	last     bool  // the frame has no further block
	checksum bool  // but a checksum
}

// A skippable frame of more bytes than that is not made part of a span.
const smallSkip = 4 << 10

// newFrames returns the frames in r, for which w is used. Where a larger one is wanted
// grow gets it.
func newFrames(r *bufio.Reader, spans *cutter, w *window, grow func(size int64) error) io.Reader {
	return named{io.NopCloser(&frames{r: r, spans: spans, window: w, grow: grow}), "zstd"}
}

// ready has a decoder that takes a frame with such a header.
func (f *frames) ready(head []byte) (err error) {
	if size := windowOf(head); !f.window.fits(size) {
		f.decoder = nil
		if err := f.grow(size); err != nil {
			return err
		}
	}
	if f.decoder == nil {
		// With one goroutine it asks for no byte beyond what it decodes.
		f.decoder, err = zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
	}
	return err
}

func (f *frames) Read(p []byte) (int, error) {
	for {
		if !f.within {
			if err := f.begin(); err != nil {
				return 0, err
			}
		}
		n, err := f.decoder.Read(p)
		f.out += int64(n)
		if errors.Is(err, io.EOF) {
			f.within, err = false, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// begin goes to the header of the next frame that is none to skip.
func (f *frames) begin() error {
	for {
		head, err := f.r.Peek(zstd.HeaderMaxSize)
		if len(head) < 5 {
			if err == io.EOF && len(head) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if magic := binary.LittleEndian.Uint32(head); magic&^0xf == 0x184d2a50 {
			if err := f.skip(head); err != nil {
				return err
			}
			continue
		} else if magic != 0xfd2fb528 {
			return zstd.ErrMagicMismatch
		}
		if f.spans != nil && f.out-f.spans.open.Out >= zstdSpan {
			f.cut()
		}
		if err := f.ready(head); err != nil {
			return err
		}
		f.within = true
		f.describe(head[4])
		return f.decoder.Reset(reading(f.frame))
	}
}

func (f *frames) cut() {
	f.spans.cut(f.spans.at, Span{Kind: ZstdAt, Off: f.spans.at, Out: f.out})
}

// skip skips the frame that begins with head.
func (f *frames) skip(head []byte) error {
	if len(head) < 8 {
		return io.ErrUnexpectedEOF
	}
	size := 8 + int64(binary.LittleEndian.Uint32(head[4:]))
	if f.spans == nil {
		return unexpected(io.CopyN(io.Discard, f.r, size))
	}
	if size <= smallSkip {
		return unexpected(io.CopyN(f.spans, f.r, size))
	}
	f.cut()
	n, err := io.CopyN(io.Discard, f.r, size)
	f.spans.at += n
	f.spans.open.Off = f.spans.at
	return unexpected(n, err)
}

func unexpected(_ int64, err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// describe learns from a frame's descriptor how long the header is.
func (f *frames) describe(descriptor byte) {
	f.left = 5 + []int64{0, 1, 2, 4}[descriptor&3] + []int64{0, 2, 4, 8}[descriptor>>6]
	if single := descriptor&0x20 != 0; !single || descriptor>>6 == 0 {
		f.left++ // the window, or a content size of one byte
	}
	f.last, f.checksum = false, descriptor&4 != 0
}

// frame reads the bytes of one frame, and ends with it.
func (f *frames) frame(p []byte) (int, error) {
	if f.left == 0 {
		if err := f.block(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if f.spans != nil {
		f.spans.use(p[:n])
	}
	return n, unexpected(0, err)
}

// block looks at what comes next in the frame.
func (f *frames) block() error {
	if f.last {
		if !f.checksum {
			return io.EOF
		}
		f.left, f.checksum = 4, false
		return nil
	}
	head, err := f.r.Peek(3)
	if err != nil {
		return unexpected(0, err)
	}
	header := int64(head[0]) | int64(head[1])<<8 | int64(head[2])<<16
	f.last, f.left = header&1 != 0, 3+header>>3
	if header>>1&3 == 1 { // one byte, over and over
		f.left = 4
	}
	return nil
}
