package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxETag bounds what is remembered of an object's ETag, in bytes.
const maxETag = 256

// validators see whether the parts of an object that one source sent are parts
// of the same bytes: a strong ETag may not change between them (RFC 9110, 8.8.1).
//
// There are sources whose ETags say nothing, because each of their machines has
// its own. So a change is an error once, and that object's ETags are not looked
// at again: its digest tells.
type validators struct {
	mu sync.Mutex
	m  map[string]validator // by object
}

type validator struct {
	from, etag string
	doubted    bool
}

// body is what checkBody says of an answer, a part of object, which is closed where
// it is refused.
func (v *validators) body(object string, resp *http.Response, desc ocispec.Descriptor, part bool, off, n int64) (*Body, error) {
	body, err := checkBody(resp, desc, part, off, n)
	if err == nil {
		err = v.check(object, resp)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return body, nil
}

// check notes the ETag of a part of object. The error, a *changedError, is that
// it differs from that of an earlier part from the same host.
func (v *validators) check(object string, resp *http.Response) error {
	etag, from := resp.Header.Get("ETag"), resp.Request.URL.Host
	if resp.StatusCode != http.StatusPartialContent || etag == "" || strings.HasPrefix(etag, "W/") || len(etag) > maxETag {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	was, ok := v.m[object]
	switch {
	case !ok && len(v.m) >= maxTargets, v.m == nil:
		v.m = make(map[string]validator)
	case was.doubted:
		return nil
	}
	if !ok || was.from != from || was.etag == etag {
		v.m[object] = validator{from: from, etag: etag}
		return nil
	}
	v.m[object] = validator{doubted: true}
	return &changedError{from, was.etag, etag}
}

// A changedError says that a source sends parts of other bytes than before.
type changedError struct{ from, was, is string }

func (e *changedError) Error() string {
	return fmt.Sprintf("%s: ETag %s, and %s before: the object changed while it was fetched", e.from, quoteLine(e.is), quoteLine(e.was))
}

// Unwrap makes it an answer that contradicts another one.
func (e *changedError) Unwrap() error { return &brokenError{e.Error()} }

func quoteLine(s string) string { return strconv.Quote(oneLine(s)) }
