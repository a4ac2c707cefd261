package fetch_test

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	foreignGzip   = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// A webServer has one layer and notes who asked for it.
type webServer struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
}

// web starts a server that answers every request as serve does.
func web(t *testing.T, serve http.HandlerFunc) *webServer {
	t.Helper()
	s := &webServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// has answers with b, by ranges.
func has(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

// answers answers with a status alone.
func answers(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (s *webServer) asked() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func foreignLayer(b []byte, urls ...string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: foreignGzip, Digest: digest.FromBytes(b), Size: int64(len(b)), URLs: urls}
}

// TestForeign reads a layer that the registry does not have, with a registry
// that wants to know who asks.
func TestForeign(t *testing.T) {
	for _, mediaType := range []string{foreignGzip, "application/vnd.oci.image.layer.nondistributable.v1.tar", dockerForeign} {
		t.Run(mediaType, func(t *testing.T) {
			b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, &fetch.Options{FillBelow: -1})
			want := random(9*mib, 1)
			there := web(t, has(want))
			desc := foreignLayer(want, there.URL+"/layer?signed=secret")
			desc.MediaType = mediaType
			o := b.object(desc)
			check(t, o, want, 5*mib, 100)
			check(t, o, want, 0, 9*mib)
			if err := o.Commit(ctx(t)); err != nil {
				t.Errorf("Commit = %v", err)
			}
			if _, ok := b.f.Known(b.loc, desc.Digest); !ok {
				t.Error("that the repository answered is not on record")
			}
			for _, r := range there.asked() {
				if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("Referer") != "" || r.URL.RawQuery != "signed=secret" {
					t.Errorf("the url got %s with %v", r.URL, r.Header)
				}
				if r.Header.Get("Range") == "" {
					t.Error("asked for everything, and not for a range")
				}
			}
			if n := b.reg.Count(http.MethodGet, testregistry.Blob); n > 1 {
				t.Errorf("the registry, which lacks the layer, got %d GETs for its ranges", n)
			}
			if strings.Contains(b.log.String(), "secret") {
				t.Errorf("the log tells the url's query:\n%s", b.log)
			}
		})
	}
}

// TestForeignUnasked: the urls are for layers that may not be distributed and
// that the registry says that it lacks, and for nothing else.
func TestForeignUnasked(t *testing.T) {
	status := func(code int) testregistry.Fault {
		return testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.Status, Code: code, Header: http.Header{"Retry-After": {"3600"}}}
	}
	for _, c := range []struct {
		name      string
		mediaType string
		held      bool // by the registry
		fault     testregistry.Fault
		err       error
	}{
		{"an ordinary layer", ocispec.MediaTypeImageLayerGzip, false, testregistry.Fault{}, iofs.ErrNotExist},
		{"a manifest", ocispec.MediaTypeImageManifest, false, testregistry.Fault{}, iofs.ErrNotExist},
		{"no type", "", false, testregistry.Fault{}, iofs.ErrNotExist},
		{"docker's other type", "application/vnd.docker.image.rootfs.diff.tar.gzip", false, testregistry.Fault{}, iofs.ErrNotExist},
		{"the registry has it", foreignGzip, true, testregistry.Fault{}, nil},
		{"401", foreignGzip, false, status(401), iofs.ErrPermission},
		{"403", foreignGzip, false, status(403), iofs.ErrPermission},
		{"429", foreignGzip, false, status(429), syscall.EBUSY},
		{"500", foreignGzip, false, status(500), syscall.EIO},
		{"503", foreignGzip, false, status(503), syscall.EIO},
		{"no answer", foreignGzip, false, testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.StallHeaders}, os.ErrDeadlineExceeded},
		{"it has it, but fails", foreignGzip, true, testregistry.Fault{Kind: testregistry.Blob, Method: http.MethodGet, Act: testregistry.Status, Code: 500}, syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, nil, ended(c.fault, 2*time.Second, fetch.Options{FillBelow: -1}))
			want := random(1000, 2)
			there := web(t, has(want))
			desc := foreignLayer(want, there.URL)
			desc.MediaType = c.mediaType
			if c.held {
				b.reg.AddBlob(b.loc.Path, want)
			}
			if c.fault.Act != 0 || c.fault.Code != 0 {
				b.reg.SetFault(c.fault)
			}
			err := b.readAll(desc)
			if !errors.Is(err, c.err) {
				t.Errorf("reading = %v, want %v", err, c.err)
			}
			if n := len(there.asked()); n > 0 {
				t.Errorf("the url was asked %d times", n)
			}
		})
	}
}

// readAll opens desc, and waits until its digest matched.
func (b *bench) readAll(desc ocispec.Descriptor) error {
	b.t.Helper()
	o, err := b.f.Open(ctx(b.t), b.loc, desc)
	if err != nil {
		return err
	}
	defer o.Close()
	return o.Verify(ctx(b.t))
}

// TestForeignNext: a url that fails, in whatever way, makes room for the next.
func TestForeignNext(t *testing.T) {
	want := random(3*mib, 3)
	lying := bytes.Clone(want)
	lying[2*mib] ^= 1
	released := make(chan struct{})
	for name, first := range map[string]http.HandlerFunc{
		"404":         answers(404),
		"401":         answers(401),
		"429":         answers(429),
		"500":         answers(500),
		"no content":  answers(204),
		"another":     has(want[:1000]),
		"wrong bytes": has(lying),
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			has(want)(w, r)
		},
		"stalls": func(http.ResponseWriter, *http.Request) { <-released },
		"loops":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			opts := &fetch.Options{}
			if name == "stalls" {
				opts.Timeout = 9 * time.Second // and a third of it for the first url
			}
			b := setup(t, nil, opts)
			bad, good := web(t, first), web(t, has(want))
			t.Cleanup(sync.OnceFunc(func() {
				if name == "stalls" {
					close(released)
				}
			}))
			if err := b.readAll(foreignLayer(want, bad.URL, good.URL)); err != nil {
				t.Errorf("reading = %v", err)
			}
			if len(bad.asked()) == 0 {
				t.Error("the first was not asked")
			}
		})
	}
	t.Run("first in order", func(t *testing.T) {
		b := setup(t, nil, nil)
		first, second := web(t, has(want)), web(t, has(want))
		if err := b.readAll(foreignLayer(want, first.URL, second.URL)); err != nil {
			t.Errorf("reading = %v", err)
		}
		if n := len(second.asked()); n > 0 {
			t.Errorf("the second of two that serve was asked %d times", n)
		}
	})
}

// TestForeignFails: who is left with nothing gets an error, and an error that
// tells the urls' and not the query, which may be signed.
func TestForeignFails(t *testing.T) {
	want := random(1000, 4)
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		err   error
	}{
		{"lies", has(random(1000, 5)), syscall.EIO},
		{"404", answers(404), iofs.ErrNotExist},
		{"403", answers(403), iofs.ErrPermission},
		{"500", answers(500), syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, nil, nil)
			there := web(t, c.serve)
			err := b.readAll(foreignLayer(want, there.URL+"/x?signed=secret"))
			if !errors.Is(err, c.err) || strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("reading = %v, want %v", err, c.err)
			}
			if _, err := b.store.Stat(digest.FromBytes(want)); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("the store has it: %v", err)
			}
		})
	}
}

// TestForeignCut: what a url broke off goes on where it ended.
func TestForeignCut(t *testing.T) {
	want := random(6*mib, 6)
	var once sync.Once
	there := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "bytes=0-0" {
			once.Do(func() { w = &cutting{w, 3*mib + 5} })
		}
		has(want)(w, r)
	})
	b := setup(t, nil, nil)
	o := b.object(foreignLayer(want, there.URL))
	check(t, o, want, 0, 6*mib)
	if err := o.Verify(ctx(t)); err != nil {
		t.Errorf("Verify = %v", err)
	}
	var ranges []string
	for _, r := range there.asked() {
		ranges = append(ranges, r.Header.Get("Range"))
	}
	if len(ranges) != 3 || ranges[0] != "bytes=0-0" || ranges[2] != fmt.Sprintf("bytes=%d-%d", 3*mib+5, 6*mib-1) {
		t.Errorf("asked for %q", ranges)
	}
	if n := b.reg.Count(http.MethodGet, testregistry.Blob); n > 1 {
		t.Errorf("the registry got %d GETs", n)
	}
}

// A cutting response ends after left bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestForeignRedirect: a url may lead on, and a url's redirect is checked as
// that of a registry.
func TestForeignRedirect(t *testing.T) {
	want := random(2*mib, 7)
	there := web(t, has(want))
	way := web(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, there.URL+"/elsewhere", http.StatusFound)
	})
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	if err := b.readAll(foreignLayer(want, way.URL)); err != nil {
		t.Errorf("reading = %v", err)
	}
	for _, r := range append(there.asked(), way.asked()...) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("sent %v", r.Header)
		}
	}
}

// TestForeignRefused: a manifest on the internet leads nobody into the machine
// that reads it, nor out of HTTPS.
func TestForeignRefused(t *testing.T) {
	for _, target := range refusedTargets {
		t.Run(target, func(t *testing.T) {
			b, _, book := public(t)
			want := random(10, 8)
			err := b.readAll(foreignLayer(want, target+"/layer"))
			if err == nil {
				t.Error("read")
			}
			if len(book.unknown) > 0 {
				t.Errorf("dialed %v", book.unknown)
			}
		})
	}
	b, cdn, book := public(t)
	want := random(10, 8)
	dgst := cdn.AddBlob(b.loc.Path, want)
	if err := b.readAll(foreignLayer(want, "https://cdn.example/v2/"+b.loc.Path+"/blobs/"+dgst.String())); err != nil || len(book.unknown) > 0 {
		t.Errorf("of a public url: %v, dialed %v", err, book.unknown)
	}
}

// TestForeignBounds: of a manifest's urls the first 16 are asked, and those that
// are none of the web, or too long, never.
func TestForeignBounds(t *testing.T) {
	b := setup(t, nil, nil)
	want := random(10, 9)
	no, yes := web(t, answers(404)), web(t, has(want))
	var urls []string
	for range 16 {
		urls = append(urls, no.URL)
	}
	if err := b.readAll(foreignLayer(want, append(urls, yes.URL)...)); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("with the right url in the 17th place: %v", err)
	}
	urls[15] = yes.URL
	if err := b.readAll(foreignLayer(want, urls...)); err != nil {
		t.Errorf("with the right url in the 16th place: %v", err)
	}
	other := random(10, 10)
	for _, u := range []string{"ftp://x.example/", "file:///etc/passwd", "/relative", ":", "http://", yes.URL + "/" + strings.Repeat("x", 2048)} {
		n := len(yes.asked())
		if err := b.readAll(foreignLayer(other, u)); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%.20s: %v", u, err)
		}
		if len(yes.asked()) > n {
			t.Errorf("%.20s… was asked", u)
		}
	}
}

// TestForeignOfMirrors: a mirror's word that it lacks the layer is not the
// host's, and the urls come after both.
func TestForeignOfMirrors(t *testing.T) {
	b, mirrors := mirrored(t, nil, nil)
	want := random(2*mib, 13)
	there := web(t, has(want))
	desc := foreignLayer(want, there.URL)
	b.reg.AddBlob(b.loc.Path, want)
	if err := b.readAll(desc); err != nil || len(there.asked()) > 0 {
		t.Errorf("of what the host has: %v, and the url was asked %d times", err, len(there.asked()))
	}
	other := random(2*mib, 14)
	elsewhere := web(t, has(other))
	if err := b.readAll(foreignLayer(other, elsewhere.URL)); err != nil {
		t.Errorf("of what neither has: %v", err)
	}
	if mirrors[0].Count("", testregistry.Blob) == 0 || len(elsewhere.asked()) == 0 {
		t.Error("the mirror, or the url, was not asked")
	}
	third := random(1000, 15)
	refused := web(t, has(third))
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.Status, Code: 403})
	if err := b.readAll(foreignLayer(third, refused.URL)); !errors.Is(err, iofs.ErrPermission) || len(refused.asked()) > 0 {
		t.Errorf("of what the mirror lacks and the host refuses: %v, and the url was asked %d times", err, len(refused.asked()))
	}
}
