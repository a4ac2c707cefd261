package fetch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestUpload meets what registries do with uploads; at the end the blob is
// there, and what it cost is counted.
func TestUpload(t *testing.T) {
	const size = 5*chunk + 77
	type counts struct{ post, patch, put int }
	for _, c := range []struct {
		name   string
		opts   testregistry.Options
		size   int
		faults []testregistry.Fault
		want   counts
		got    int64 // bytes that were sent; 0 the blob's size
	}{
		{name: "an empty blob", size: -1, want: counts{1, 0, 1}},
		{name: "one byte", size: 1, want: counts{1, 0, 1}},
		{name: "one chunk goes at once", size: chunk, want: counts{1, 0, 1}},
		{name: "one byte more does not", size: chunk + 1, want: counts{1, 2, 1}},
		{name: "by chunks", want: counts{1, 6, 1}},
		{name: "larger chunks, as asked", opts: testregistry.Options{ChunkMin: 2*chunk + 5}, want: counts{1, 3, 1}},
		{name: "cut in a chunk", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 1000, Skip: 2, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "cut again and again, each time further on", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 200_000, Times: 20},
		}, want: counts{1, 7, 1}},
		{name: "cut where nothing was kept", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 0, Skip: 1, Times: 2},
		}, want: counts{1, 8, 1}},
		{name: "cut in a chunk, and the session is done with", opts: testregistry.Options{StrictUploads: true}, faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 1000, Skip: 2, Times: 1},
		}, want: counts{2, 9, 1}, got: size + 2*chunk + 1000},
		{name: "cut after a chunk, before its answer", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Cut, Skip: 1, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "the last answer is lost", faults: []testregistry.Fault{
			{Method: "PUT", Act: testregistry.Cut, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "the end is cut", faults: []testregistry.Fault{
			{Method: "PUT", Act: testregistry.CutUpload, Times: 1},
		}, want: counts{1, 6, 2}},
		{name: "the end of what goes at once is cut", size: chunk, faults: []testregistry.Fault{
			{Method: "PUT", Act: testregistry.CutUpload, At: 1000, Times: 1},
		}, want: counts{1, 1, 2}},
		{name: "the session is forgotten before a chunk", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.LoseSession, Skip: 2, Times: 1},
		}, want: counts{2, 9, 1}, got: size + 2*chunk},
		{name: "the session is forgotten before the end", faults: []testregistry.Fault{
			{Method: "PUT", Act: testregistry.LoseSession, Times: 1},
		}, want: counts{2, 12, 2}, got: 2 * size},
		{name: "the session is forgotten when asked for", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 100, Skip: 1, Times: 1},
			{Method: "GET", Act: testregistry.LoseSession, Times: 1},
		}, want: counts{2, 8, 1}, got: size + chunk + 100},
		{name: "a Range of less than was sent, once", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Range": {"0-99"}}, Skip: 1, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "a Range of more than was sent, once", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Range": {"0-99999999"}}, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "no Range", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Range": {""}}},
		}, want: counts{1, 6, 1}},
		{name: "a Range with a unit", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Range": {fmt.Sprintf("bytes=0-%d", chunk-1)}}, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "a status without a Range", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 100, Skip: 1, Times: 1},
			{Method: "GET", Act: testregistry.Headers, Header: http.Header{"Range": {""}}},
		}, want: counts{2, 8, 1}, got: size + chunk + 100},
		{name: "no chunks: 405", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 405},
		}, want: counts{2, 1, 1}},
		{name: "no chunks: 416 always", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 416},
		}, want: counts{4, 3, 1}},
		{name: "no chunks, and what goes at once is cut", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 501},
			{Method: "PUT", Act: testregistry.CutUpload, At: chunk, Times: 1},
		}, want: counts{3, 1, 2}, got: size + chunk},
		{name: "out of place once", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 416, Skip: 1, Times: 1},
		}, want: counts{1, 7, 1}},
		{name: "429 with Retry-After at the beginning, in it and at the end", faults: []testregistry.Fault{
			{Method: "POST", Act: testregistry.Refuse, Code: 429, Header: http.Header{"Retry-After": {"1"}}, Times: 1},
			{Method: "PATCH", Act: testregistry.Refuse, Code: 503, Header: http.Header{"Retry-After": {"1"}}, Skip: 1, Times: 1},
			{Method: "PUT", Act: testregistry.Refuse, Code: 429, Header: http.Header{"Retry-After": {"1"}}, Times: 1},
		}, want: counts{2, 7, 2}},
		{name: "500 once", faults: []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 500, Skip: 3, Times: 1},
		}, want: counts{1, 7, 1}},
		{name: "a Location without the port, by another scheme", faults: []testregistry.Fault{
			{Method: "POST", Act: testregistry.Headers, Header: http.Header{"Location": {"https://127.0.0.1/v2/library/redis/blobs/uploads/u1?_state=1"}}, Times: 1},
		}, want: counts{1, 6, 1}},
		{name: "the token ends with each third request", opts: testregistry.Options{Auth: testregistry.BearerAuth, TokenUses: 3}, want: counts{2, 8, 1}},
		{name: "the same, and that is a 403", opts: testregistry.Options{Auth: testregistry.BearerAuth, TokenUses: 3, ExpiredStatus: 403}, want: counts{2, 10, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &c.opts, nil)
			n := c.size
			switch n {
			case 0:
				n = size
			case -1:
				n = 0
			}
			for _, f := range c.faults {
				f.Kind = testregistry.Upload
				b.reg.SetFault(f)
			}
			p := random(n, 1)
			desc, mounted, err := b.upload(p)
			if err != nil || mounted {
				t.Fatalf("Upload = %v, %v, want it sent", mounted, err)
			}
			if !bytes.Equal(b.reg.Bytes(b.loc.Path, desc.Digest.String()), p) {
				t.Error("the registry has other bytes")
			}
			if have := (counts{b.count("POST"), b.count("PATCH"), b.count("PUT")}); have != c.want {
				t.Errorf("requests: %+v, want %+v", have, c.want)
			}
			want := c.got
			if want == 0 {
				want = int64(n)
			}
			if got := b.got(); got != want {
				t.Errorf("%d bytes were taken, want %d", got, want)
			}
			if have, err := b.store.Object(b.loc.String(), desc.Digest); err != nil || have.Size != desc.Size {
				t.Errorf("on record is %+v, %v", have, err)
			}
		})
	}
}

// TestUploadFails meets what no other try mends.
func TestUploadFails(t *testing.T) {
	elsewhere := testregistry.Start(t, nil)
	for _, c := range []struct {
		name   string
		opts   testregistry.Options
		faults []testregistry.Fault
		kind   error
		says   string
		most   int // requests
	}{
		{"a session at another host", testregistry.Options{}, []testregistry.Fault{
			{Method: "POST", Act: testregistry.Headers, Header: http.Header{"Location": {elsewhere.URL() + "/v2/a/blobs/uploads/u1"}}},
		}, syscall.EIO, "another host", 1},
		{"a session at another host, by HTTPS", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Location": {"https://example.com/u1"}}},
		}, syscall.EIO, "another host", 2},
		{"a chunk is redirected", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.RedirectTo, To: elsewhere.URL()},
		}, syscall.EIO, "redirects", 2},
		{"a session beside the API is redirected", testregistry.Options{}, []testregistry.Fault{
			{Method: "POST", Act: testregistry.Headers, Header: http.Header{"Location": {"/beside/u1?x=y"}}},
			{Method: "PATCH", Kind: testregistry.Other, Act: testregistry.RedirectTo, To: elsewhere.URL()},
		}, syscall.EIO, "redirects", 2},
		{"no session's place", testregistry.Options{}, []testregistry.Fault{
			{Method: "POST", Act: testregistry.Headers, Header: http.Header{"Location": {""}}},
		}, syscall.EIO, "without a Location", 1},
		{"sessions that are always forgotten", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.LoseSession},
		}, iofs.ErrNotExist, "404", 8},
		{"no chunk is ever right", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Headers, Header: http.Header{"Range": {"0-5"}}},
			{Method: "GET", Act: testregistry.Headers, Header: http.Header{"Range": {"0-5"}}},
			{Method: "PUT", Act: testregistry.Refuse, Code: 400},
		}, syscall.EIO, "400", 12},
		{"a session that goes back", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.CutUpload, At: 10, Skip: 1},
			{Method: "GET", Act: testregistry.Headers, Header: http.Header{"Range": {"0-100"}}},
			{Method: "PUT", Act: testregistry.Refuse, Code: 400},
		}, syscall.EIO, "", 20},
		{"another digest is told", testregistry.Options{}, []testregistry.Fault{
			{Method: "PUT", Act: testregistry.Headers, Header: http.Header{"Docker-Content-Digest": {digest.FromString("other").String()}}},
		}, syscall.EIO, "for \"sha256:", 8},
		{"all is denied", testregistry.Options{}, []testregistry.Fault{
			{Method: "POST", Act: testregistry.Refuse, Code: 403, Body: `{"errors":[{"code":"DENIED","message":"\u001b[2J"}]}`},
		}, iofs.ErrPermission, "403 Forbidden (DENIED; asked without credentials; docker login ", 1},
		{"no credentials", testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil, iofs.ErrPermission, "", 1},
		{"500 for ever", testregistry.Options{}, []testregistry.Fault{
			{Method: "PATCH", Act: testregistry.Refuse, Code: 500, Skip: 1},
		}, syscall.EIO, "500", 8},
		{"429 for longer than one waits", testregistry.Options{}, []testregistry.Fault{
			{Method: "POST", Act: testregistry.Refuse, Code: 429, Header: http.Header{"Retry-After": {"3600"}}},
		}, syscall.EBUSY, "429", 1},
		{"a digest that the registry does not find", testregistry.Options{}, []testregistry.Fault{
			{Method: "PUT", Act: testregistry.Refuse, Code: 400, Body: `{"errors":[{"code":"DIGEST_INVALID"}]}`},
		}, syscall.EIO, "DIGEST_INVALID", 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &c.opts, nil)
			for _, f := range c.faults {
				if f.Kind == "" {
					f.Kind = testregistry.Upload
				}
				b.reg.SetFault(f)
			}
			desc, _, err := b.upload(random(5*chunk+77, 1))
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), desc.Digest.String()) {
				t.Fatalf("Upload = %v, want %v with %q and the digest", err, c.kind, c.says)
			}
			if strings.Count(err.Error(), desc.Digest.String()) > 2 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the error is %q", err)
			}
			if n := b.count(""); n > c.most {
				t.Errorf("%d requests, want at most %d: %+v", n, c.most, b.reg.Requests())
			}
			if rs := elsewhere.Requests(); len(rs) > 0 {
				t.Errorf("another host was asked: %+v", rs)
			}
			if have, err := b.store.Object(b.loc.String(), desc.Digest); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("on record is %+v, %v", have, err)
			}
		})
	}
}

// TestUploadDrip ends with registries that bring an upload on by a byte at a time:
// of each chunk they take that, or they cut the connection and tell of it when they
// are asked.
func TestUploadDrip(t *testing.T) {
	for name, c := range map[string]struct {
		patch int // the status of an answer to a chunk
		most  int64
	}{
		"acknowledged": {http.StatusAccepted, 8 * chunk},
		"asked for":    {http.StatusServiceUnavailable, 8 * chunk},
		"out of place": {http.StatusRequestedRangeNotSatisfiable, 8 * chunk},
	} {
		t.Run(name, func(t *testing.T) {
			var sent, has atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				sent.Add(n)
				status := http.StatusAccepted
				switch r.Method {
				case http.MethodHead:
					status = http.StatusNotFound
				case http.MethodPatch:
					has.Add(1)
					status = c.patch
				}
				w.Header().Set("Location", "/v2/u")
				w.Header().Set("Range", fmt.Sprintf("0-%d", has.Load()-1))
				w.WriteHeader(status)
			}))
			defer srv.Close()
			store, err := content.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			f := fetch.New(store, locator.Hosts{}, nil)
			defer f.Close()
			b := &bench{t: t, f: f, loc: locator.Locator{Host: strings.TrimPrefix(srv.URL, "http://"), Path: "a"}}
			if _, _, err := b.upload(random(5*chunk, 1)); err == nil || !errors.Is(err, syscall.EIO) {
				t.Errorf("Upload = %v, want EIO", err)
			}
			if n := sent.Load(); n > c.most {
				t.Errorf("%d bytes were sent, want at most %d", n, c.most)
			}
		})
	}
}

// TestUploadByChance meets faults in whatever order. Whatever comes of it, success
// is the right blob, and it comes to an end.
func TestUploadByChance(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range 60 {
		chance := rand.New(rand.NewPCG(seed, uint64(i)))
		b := setup(t, &testregistry.Options{StrictUploads: chance.IntN(2) == 0, ChunkMin: int64(chance.IntN(2) * 2 * chunk)}, nil)
		var faults []testregistry.Fault
		for range 1 + chance.IntN(6) {
			f := testregistry.Fault{
				Kind: testregistry.Upload, Method: []string{"POST", "PATCH", "PATCH", "PUT", "GET"}[chance.IntN(5)], Skip: chance.IntN(3), Times: 1 + chance.IntN(3),
				At: chance.Int64N(2 * chunk), Code: []int{400, 404, 405, 413, 416, 500, 502, 503}[chance.IntN(8)],
				Header: http.Header{"Range": {fmt.Sprintf("0-%d", chance.Int64N(3*chunk))}},
				Act:    []testregistry.Act{testregistry.Refuse, testregistry.CutUpload, testregistry.LoseSession, testregistry.Cut, testregistry.Headers}[chance.IntN(5)],
			}
			faults = append(faults, f)
			b.reg.SetFault(f)
		}
		p := random(chance.IntN(4*chunk), uint64(i))
		desc, _, err := b.upload(p)
		if err == nil && !bytes.Equal(b.reg.Bytes(b.loc.Path, desc.Digest.String()), p) {
			t.Errorf("%d: with %+v it succeeded, and the blob is not there", i, faults)
		}
		if n := len(b.reg.Requests()); n > 200 {
			t.Errorf("%d: with %+v %d requests were sent", i, faults, n)
		}
		b.reg.ClearFaults()
		if _, _, err := b.upload(p); err != nil { // whatever was left behind
			t.Errorf("%d: after %+v, healed: %v", i, faults, err)
		}
	}
}

// TestUploadTells how far it is: from none to all, and back where bytes were lost.
func TestUploadTells(t *testing.T) {
	b := setup(t, nil, nil)
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Method: "PATCH", Act: testregistry.CutUpload, At: 1000, Skip: 1, Times: 1})
	p := random(3*chunk, 1)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(p), Size: int64(len(p))}
	var first, last, back, calls int64 = -1, 0, 0, 0
	var over atomic.Bool
	_, err := b.pusher("").Upload(ctx(t), desc, bytes.NewReader(p), func(n int64) {
		if over.Load() {
			t.Error("told after the end")
		}
		if first < 0 {
			first = n
		}
		if n < last {
			back++
		}
		last = n
		calls++
	})
	over.Store(true)
	if err != nil || first != 0 || last != desc.Size || back != 1 {
		t.Errorf("Upload = %v; told from %d to %d, %d times back, in %d calls", err, first, last, back, calls)
	}
}

// TestUploadShortSource is told as what it is, and at once.
func TestUploadShortSource(t *testing.T) {
	b := setup(t, nil, nil)
	p := random(2*chunk, 1)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(p), Size: int64(len(p))}
	_, err := b.pusher("").Upload(ctx(t), desc, bytes.NewReader(p[:chunk+9]), func(int64) {})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "reading what is pushed") {
		t.Errorf("Upload = %v, want io.ErrUnexpectedEOF", err)
	}
	if n := b.count("PATCH"); n > 2 {
		t.Errorf("%d chunks were sent", n)
	}
}
