package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkBody holds an answer against what was asked: a part of desc, n bytes
// from off on, or all of it. An answer that contradicts itself or the
// descriptor is refused before a byte of it is taken.
func checkBody(resp *http.Response, desc ocispec.Descriptor, part bool, off, n int64) (*Body, error) {
	from := resp.Request.URL.Host
	if resp.StatusCode/100 != 2 {
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return nil, broken("%s: 416 for bytes %d-%d of %d", from, off, off+n-1, desc.Size)
		}
		return nil, statusError(resp)
	}
	if err := checkEncoding(resp); err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if !part {
			return nil, broken("%s: 206 where no range was asked for", from)
		}
		return checkPart(resp, desc, off, n)
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != desc.Size {
			return nil, &sizeError{from, resp.ContentLength, desc.Size}
		}
		return &Body{ReadCloser: resp.Body, Len: desc.Size, Whole: part, From: from}, nil
	}
	return nil, broken("%s: status %d for a GET", from, resp.StatusCode)
}

// checkEncoding refuses an answer whose bytes are not those of the object.
func checkEncoding(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return broken("%s: Content-Encoding %s where identity was asked for", resp.Request.URL.Host, quoteLine(e))
	}
	return nil
}

// A sizeError is an answer that gives an object another size than was known.
type sizeError struct {
	from      string
	got, want int64
}

func (e *sizeError) Error() string {
	return fmt.Sprintf("%s: it has %d bytes there, and not %d", e.from, e.got, e.want)
}

// Is makes it syscall.EIO.
func (e *sizeError) Is(target error) bool { return target == syscall.EIO }

func checkPart(resp *http.Response, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	from := resp.Request.URL.Host
	first, last, total, err := contentRange(resp)
	switch {
	case err != nil:
		return nil, err
	case first != off || last < first || last >= off+n:
		return nil, broken("%s: Content-Range %d-%d where %d-%d was asked for", from, first, last, off, off+n-1)
	case total >= 0 && total != desc.Size:
		return nil, &sizeError{from, total, desc.Size}
	case resp.ContentLength >= 0 && resp.ContentLength != last-first+1:
		return nil, broken("%s: Content-Length %d with Content-Range %d-%d", from, resp.ContentLength, first, last)
	}
	return &Body{ReadCloser: resp.Body, Offset: first, Len: last - first + 1, From: from}, nil
}

// contentRange reads the header of a 206: "bytes FIRST-LAST/TOTAL", TOTAL -1
// where it is "*" (RFC 9110, 14.4).
func contentRange(resp *http.Response) (first, last, total int64, err error) {
	h := resp.Header.Get("Content-Range")
	bad := broken("%s: Content-Range %s", resp.Request.URL.Host, quoteLine(h))
	unit, rest, ok := strings.Cut(h, " ")
	span, size, ok2 := strings.Cut(rest, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 || !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, bad
	}
	first, err1 := parseOffset(a)
	last, err2 := parseOffset(b)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = parseOffset(size)
	}
	if err1 != nil || err2 != nil || err3 != nil || last < first || total >= 0 && last >= total {
		return 0, 0, 0, bad
	}
	return first, last, total, nil
}

// parseOffset reads digits and nothing else: no sign, no space.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
