package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/klauspost/compress/gzip"
)

// An eStargz is a gzip of many members. Its table of contents is the file
// stargz.index.json of a tar in the last but one; the last is its footer, empty,
// which says in its header where that is. The annotation has the digest of the
// JSON.
const (
	estargzTOC = "stargz.index.json"
)

func readEStargz(ctx context.Context, blob Blob, dgst string) (*Index, error) {
	size := blob.Size()
	n := estargzTail(size)
	tail, err := readRange(ctx, blob, size-n, n)
	if err != nil {
		return nil, err
	}
	off, footer, err := estargzFooter(tail)
	if err != nil {
		return nil, &TOCError{err}
	}
	end, begin := size-footer, size-n // of the table, and of what was read
	switch {
	case off >= end:
		return nil, noTOC("it lies at %d, past its end in a layer of %d bytes", off, size)
	case end-off > maxTOCInBlob:
		return nil, noTOC("%d bytes are more than %d", end-off, maxTOCInBlob)
	}
	toc := tail[max(off-begin, 0) : n-footer]
	if off < begin {
		head, err := readRange(ctx, blob, off, begin-off)
		if err != nil {
			return nil, err
		}
		toc = slices.Concat(head, toc)
	}
	ix, err := indexEStargz(toc, dgst, off)
	if err != nil {
		return nil, &TOCError{err}
	}
	return ix, nil
}

// estargzTail guesses how much of a layer's end has the table of contents. Of
// Debian's packages it is a sixtieth of the layer, of large files nothing to speak of;
// a second request for a longer one costs less than much that is read in vain.
func estargzTail(size int64) int64 {
	const least, most = 64 << 10, 384 << 10
	return min(size, max(least, min(size/48, most)))
}

// estargzFooter returns where the table of contents is in the blob, and how long
// the footer at the end of tail is.
func estargzFooter(tail []byte) (off, size int64, err error) {
	for _, f := range []struct {
		size  int
		extra string // what comes before the offset in the gzip header
	}{
		{51, "\x1a\x00SG\x16\x00"},
		{47, "\x16\x00"}, // before eStargz
	} {
		if len(tail) < f.size {
			continue
		}
		b := tail[len(tail)-f.size:]
		digits := 10 + len(f.extra)
		if string(b[:4]) != "\x1f\x8b\x08\x04" || string(b[10:digits]) != f.extra || string(b[digits+16:digits+22]) != "STARGZ" {
			continue
		}
		off, err := strconv.ParseUint(string(b[digits:digits+16]), 16, 63)
		if err != nil {
			return 0, 0, fmt.Errorf("in the footer: %w", err)
		}
		return int64(off), int64(f.size), nil
	}
	return 0, 0, errors.New("the layer has no footer of eStargz")
}

// indexEStargz makes the index of a table of contents as it lies at off in the
// blob. It inflates it twice, so as to have it verified and never in memory.
func indexEStargz(toc []byte, dgst string, off int64) (*Index, error) {
	json, err := estargzJSON(toc)
	if err != nil {
		return nil, err
	}
	if err := verifyTOC(json, dgst); err != nil {
		return nil, err
	}
	if json, err = estargzJSON(toc); err != nil {
		return nil, err
	}
	return indexTOC(json, EStargz, off)
}

func estargzJSON(toc []byte) (io.Reader, error) {
	z, err := gzip.NewReader(bytes.NewReader(toc))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	const most = maxTOC + 1<<20 // with what is around it
	t := tar.NewReader(&limited{r: z, of: "its tar", left: most, most: most})
	hdr, err := t.Next()
	switch {
	case err != nil:
		return nil, err
	case hdr.Name != estargzTOC || hdr.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("%.200q lies in its place", hdr.Name)
	case hdr.Size > maxTOC:
		return nil, &SizeError{"JSON", maxTOC}
	}
	return t, nil
}
