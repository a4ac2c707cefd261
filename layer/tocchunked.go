package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// A zstd:chunked is a zstd of many frames, followed by skippable ones: with its
// table of contents, which is compressed, a description of the tar, and a footer.
// Annotations have the digest of the compressed table and, since they exist, where
// it is.
const (
	chunkedChecksum = "manifest-checksum"
	chunkedPosition = "manifest-position"
	skippableHeader = 8 // bytes of a skippable frame before its content
)

// chunkedPrefix returns the prefix that the annotations of a zstd:chunked have,
// "" if they name no digest.
func chunkedPrefix(annotations map[string]string) string {
	for _, prefix := range []string{"io.github.containers.zstd-chunked.", "io.containers.zstd-chunked."} {
		if annotations[prefix+chunkedChecksum] != "" {
			return prefix
		}
	}
	return ""
}

func readChunked(ctx context.Context, blob Blob, dgst, position string) (*Index, error) {
	off, n, err := parsePosition(position)
	if position == "" {
		const longest = skippableHeader + 64
		size := min(blob.Size(), longest)
		tail, failed := readRange(ctx, blob, blob.Size()-size, size)
		if failed != nil {
			return nil, failed
		}
		off, n, err = chunkedFooter(tail)
	}
	switch {
	case err != nil:
		return nil, &TOCError{err}
	case off < skippableHeader || n == 0 || off > blob.Size() || n > blob.Size()-off:
		return nil, noTOC("%d bytes at %d do not lie in a layer of %d bytes", n, off, blob.Size())
	case n > maxTOCInBlob:
		return nil, noTOC("%d bytes are more than %d", n, maxTOCInBlob)
	}
	toc, err := readRange(ctx, blob, off, n)
	if err != nil {
		return nil, err
	}
	ix, err := indexChunked(toc, dgst, off)
	if err != nil {
		return nil, &TOCError{err}
	}
	return ix, nil
}

// parsePosition reads offset, length, uncompressed length and type, which is 1.
func parsePosition(position string) (off, n int64, err error) {
	fields := strings.Split(position, ":")
	if len(fields) != 4 {
		return 0, 0, fmt.Errorf("%.100q is no position", position)
	}
	var numbers [4]uint64
	for i, field := range fields {
		if numbers[i], err = strconv.ParseUint(field, 10, 63); err != nil {
			return 0, 0, fmt.Errorf("position %.100q: %w", position, err)
		}
	}
	if numbers[3] != 1 {
		return 0, 0, fmt.Errorf("it is of type %d, which is not known", numbers[3])
	}
	return int64(numbers[0]), int64(numbers[1]), nil
}

// chunkedFooter reads the footer at the end of tail. That of 56 bytes was a
// mistake of containers/storage in 2023, and has its magic in the middle.
func chunkedFooter(tail []byte) (off, n int64, err error) {
	for _, f := range []struct {
		size, magic int
		text        string
	}{
		{64, 56, "GNUlInUx"},
		{56, 32, "GnUlInUx"},
		{40, 32, "GnUlInUx"},
	} {
		if len(tail) < skippableHeader+f.size {
			continue
		}
		header, b := tail[len(tail)-f.size-skippableHeader:], tail[len(tail)-f.size:]
		if string(header[:4]) != "\x50\x2a\x4d\x18" || binary.LittleEndian.Uint32(header[4:]) != uint32(f.size) ||
			string(b[f.magic:f.magic+len(f.text)]) != f.text {
			continue
		}
		off, n, kind := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[24:])
		if kind != 1 || int64(off) < 0 || int64(n) < 0 {
			return 0, 0, fmt.Errorf("the footer says %d bytes at %d of type %d", n, off, kind)
		}
		return int64(off), int64(n), nil
	}
	return 0, 0, errors.New("the layer has no footer of zstd:chunked")
}

// indexChunked makes the index of a table of contents as it lies at off in the
// blob.
func indexChunked(toc []byte, dgst string, off int64) (*Index, error) {
	if err := verifyTOC(bytes.NewReader(toc), dgst); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(bytes.NewReader(toc),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer z.Close()
	json := &limited{r: z, of: "JSON", left: maxTOC, most: maxTOC}
	return indexTOC(json, ZstdChunked, off-skippableHeader)
}
