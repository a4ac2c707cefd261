package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"syscall"
)

// A TOCError says why a layer has no table of contents that counts: it is a plain
// gzip or zstd of its tar.
type TOCError struct{ Err error }

func (e *TOCError) Error() string { return "table of contents: " + e.Err.Error() }
func (e *TOCError) Unwrap() error { return e.Err }

func noTOC(format string, args ...any) error { return &TOCError{fmt.Errorf(format, args...)} }

// How many bytes a table of contents may have.
const (
	maxTOC       = 150 << 20
	maxTOCInBlob = 50 << 20 // as it lies in the blob
)

// HasTOC says whether the annotations of a layer's descriptor name the digest of
// a table of contents, so that it may count.
func HasTOC(annotations map[string]string) bool {
	return annotations[AnnotationTOC] != "" || chunkedPrefix(annotations) != ""
}

// TOCName returns what the annotations of a layer's descriptor say of its table of
// contents, on one line: two descriptors that say the same have the same index.
func TOCName(annotations map[string]string) string {
	prefix := chunkedPrefix(annotations)
	return fmt.Sprintf("%q %q %q", annotations[AnnotationTOC], annotations[prefix+chunkedChecksum], annotations[prefix+chunkedPosition])
}

// ReadTOC returns the index of a layer, an eStargz or a zstd:chunked, by its table
// of contents, whose digest the annotations of its descriptor name. It reads the
// blob once if they say where the table is, or a guess at its length is enough;
// else twice. A file's content is not looked at: each span has the digest of what
// it decodes to.
//
// The error is a *TOCError where the table does not count: there is none, it has
// another digest, or it says what no layer may have. What the blob answers is
// returned as it is.
func ReadTOC(ctx context.Context, blob Blob, annotations map[string]string) (*Index, error) {
	// A zstd:chunked of stargz-snapshotter has the digest of an eStargz too.
	if prefix := chunkedPrefix(annotations); prefix != "" {
		return readChunked(ctx, blob, annotations[prefix+chunkedChecksum], annotations[prefix+chunkedPosition])
	}
	if dgst := annotations[AnnotationTOC]; dgst != "" {
		return readEStargz(ctx, blob, dgst)
	}
	return nil, noTOC("the layer's descriptor names none")
}

// verifyTOC is not nil, and syscall.EINVAL, if r is not of the digest that the
// layer's descriptor says.
func verifyTOC(r io.Reader, dgst string) error {
	want, ok := parseSHA256([]byte(dgst))
	if !ok {
		return &refusal{fmt.Sprintf("the layer's descriptor says its digest is %.100q, which is no sha256", dgst), syscall.EINVAL}
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if got := h.Sum(nil); sum(got) != want {
		return &refusal{fmt.Sprintf("it is sha256:%x, and the layer's descriptor says %s", got, dgst), syscall.EINVAL}
	}
	return nil
}

// parseSHA256 returns the sum of a digest, which is none if it is of another
// algorithm. Zero is none.
func parseSHA256(dgst []byte) (s sum, ok bool) {
	encoded, is := bytes.CutPrefix(dgst, []byte("sha256:"))
	if !is || len(encoded) != hex.EncodedLen(len(s)) {
		return sum{}, false
	}
	if _, err := hex.Decode(s[:], encoded); err != nil {
		return sum{}, false
	}
	return s, s != sum{}
}

// readRange returns n bytes of the blob from off on. It takes memory as they come.
func readRange(ctx context.Context, blob Blob, off, n int64) ([]byte, error) {
	const step = 4 << 20
	var b []byte
	for n > int64(len(b)) {
		have := len(b)
		b = slices.Grow(b, int(min(step, n-int64(have))))
		b = b[:min(int64(have)+step, n)]
		if err := readFull(ctx, blob, b[have:], off+int64(have)); err != nil {
			return nil, err
		}
	}
	return b, nil
}
