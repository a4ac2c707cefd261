package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/readahead"
)

// A Format is how a layer's tar is compressed.
type Format uint8

// The formats that a layer may have. The last two are a Gzip and a Zstd with a
// table of contents, which Detect does not tell from them.
const (
	Tar Format = iota
	Gzip
	Zstd
	EStargz
	ZstdChunked
)

// maxWindow bounds a zstd frame's window in bytes, which is memory that whoever made
// the layer has us take. Up to level 19 zstd(1) has 8 MiB and level 20 has 32; the Go
// encoder, which BuildKit, skopeo and crane have, has 32 MiB at most unless told
// otherwise. Levels 21 and 22, and --long=26 and more, are beyond it.
const maxWindow = 32 << 20

// Decompressed bytes lie ready in so many buffers of that size, so that
// inflating and unpacking share two cores.
const (
	aheadBuffers = 4
	aheadSize    = 256 << 10
)

// Detect tells the format of a layer by its first bytes, four where there are
// so many.
func Detect(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case len(head) >= 4 && bytes.Equal(head[:4], []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		return Zstd
	}
	return Tar
}

// Decompress returns the tar in r, whose content tells its format. It may read
// ahead of who reads from it until it is closed; Close waits for a Read of r
// that is under way, and leaves r open. The error is io.ErrUnexpectedEOF if r is
// empty, and syscall.EINVAL for what xz or bzip2 compressed.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, aheadSize)
	format, err := sniff(buffered)
	if err != nil {
		return nil, err
	}
	switch format {
	case Gzip:
		return gunzipAhead(buffered)
	case Zstd:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return named{z.IOReadCloser(), "zstd"}, nil
	}
	return io.NopCloser(buffered), nil
}

// sniff tells the format of the layer that r begins with, and the errors of
// Decompress.
func sniff(r *bufio.Reader) (Format, error) {
	head, err := r.Peek(4)
	switch {
	case err != nil && err != io.EOF:
		return 0, err
	case len(head) == 0:
		return 0, &refusal{"it is empty", io.ErrUnexpectedEOF}
	case bytes.HasPrefix(head, []byte("\xfd7zX")):
		return 0, &refusal{"it is compressed by xz, which is not supported", syscall.EINVAL}
	case bytes.HasPrefix(head, []byte("BZh")):
		return 0, &refusal{"it is compressed by bzip2, which is not supported", syscall.EINVAL}
	}
	return Detect(head), nil
}

func gunzipAhead(r io.Reader) (io.ReadCloser, error) {
	z := newGunzip(r, 0, nil, nil)
	if err := z.header(); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	ahead, err := readahead.NewReaderSize(z, aheadBuffers, aheadSize)
	if err != nil {
		return nil, err
	}
	return named{ahead, "gzip"}, nil
}

// named has errors say whose they are.
type named struct {
	io.ReadCloser
	name string
}

func (n named) Read(p []byte) (int, error) {
	m, err := n.ReadCloser.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = &refusal{fmt.Sprintf("a window of more than %d MiB", maxWindow>>20), syscall.EFBIG}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return m, err
}
