package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestRetryAfterHoldsForAll requests to a host: one is told when to come again,
// in seconds or by a date; until then none is sent, whatever it asks for, and
// then all get their answer.
func TestRetryAfterHoldsForAll(t *testing.T) {
	for _, c := range []struct {
		name string
		code int
		when func() string
	}{
		{"429 in seconds", http.StatusTooManyRequests, func() string { return "1" }},
		{"503 in seconds", http.StatusServiceUnavailable, func() string { return "1" }},
		{"429 by date", http.StatusTooManyRequests, func() string { return time.Now().Add(6 * time.Second).UTC().Format(http.TimeFormat) }},
		{"503 by date", http.StatusServiceUnavailable, func() string { return time.Now().Add(6 * time.Second).UTC().Format(http.TimeFormat) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, &fetch.Options{FillBelow: -1})
			first, _ := b.blob(10)
			unknown, _ := b.blob(20)
			large, want := b.blob(3 * mib)
			b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
			if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: large.Digest}); err != nil {
				t.Fatal(err)
			}
			b.reg.Forget()
			header := make(http.Header)
			asked := sync.OnceFunc(func() { header.Set("Retry-After", c.when()) })
			b.reg.SetFault(testregistry.Fault{Act: testregistry.Status, Code: c.code, Header: header, Times: 1, Match: func(*testregistry.Request) bool {
				asked() // a date counts from the answer on
				return true
			}})
			if _, err := b.f.Stat(hurried{ctx(t)}, b.loc, ocispec.Descriptor{Digest: first.Digest}); !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EIO) {
				t.Fatalf("Stat by who can't wait = %v, want EBUSY or EIO", err)
			}
			var wg sync.WaitGroup
			run := func(do func() error) {
				wg.Go(func() {
					if err := do(); err != nil {
						t.Error(err)
					}
				})
			}
			stat := func(d ocispec.Descriptor) error {
				_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: d.Digest})
				return err
			}
			run(func() error { return stat(unknown) })
			run(func() error {
				_, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
				return err
			})
			o := b.object(large)
			run(func() error {
				p := make([]byte, 100)
				_, err := o.ReadAt(ctx(t), p, 2*mib)
				if err == nil && !bytes.Equal(p, want[2*mib:][:100]) {
					err = errors.New("wrong bytes")
				}
				return err
			})
			wg.Wait()
			rs := b.reg.Requests()
			for _, r := range rs[1:] {
				if r.At.Sub(rs[0].At) < time.Second {
					t.Errorf("%s %s %s in the second that was asked for", r.Method, r.Kind, r.Ref)
				}
			}
			if len(rs) < 4 {
				t.Errorf("%d requests, want 4", len(rs))
			}
		})
	}
}

// A hurried context is always about to end, and does not.
type hurried struct {
	context.Context //nolint:containedctx // it is one
}

func (hurried) Deadline() (time.Time, bool) { return time.Now().Add(900 * time.Millisecond), true }

// TestLongRetryAfterFailsAtOnce: longer than a reader waits nobody waits, and
// nobody asks, either.
func TestLongRetryAfterFailsAtOnce(t *testing.T) {
	for code, kind := range map[int]error{http.StatusTooManyRequests: syscall.EBUSY, http.StatusServiceUnavailable: syscall.EIO} {
		b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: time.Minute})
		first, _ := b.blob(10)
		large, _ := b.blob(3 * mib)
		if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: large.Digest}); err != nil {
			t.Fatal(err)
		}
		b.reg.Forget()
		b.reg.SetFault(testregistry.Fault{Act: testregistry.Status, Code: code, Header: http.Header{"Retry-After": {"3600"}}})
		_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: first.Digest})
		if !errors.Is(err, kind) {
			t.Errorf("Stat = %v, want %v", err, kind)
		}
		if err != nil && !strings.Contains(err.Error(), "to be asked again in 1h0m0s") {
			t.Errorf("Stat = %v, which does not say when to ask again", err)
		}
		sent := b.reg.Count("", "")
		_, err = b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
		if !errors.Is(err, kind) {
			t.Errorf("Resolve = %v, want %v", err, kind)
		}
		_, err = b.object(large).ReadAt(ctx(t), make([]byte, 10), 0)
		if !errors.Is(err, kind) {
			t.Errorf("ReadAt = %v, want %v", err, kind)
		}
		if got := b.reg.Count("", ""); sent != 1 || got != sent {
			t.Errorf("%d requests, and then %d more, want 1 and none", sent, got-sent)
		}
	}
}

// TestALongWishIsTriedAgain: a host that asked for an hour is asked again after
// the time that a reader would wait, for by then it may be well.
func TestALongWishIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, &fetch.Options{Timeout: 4 * time.Second})
	desc, want := b.blob(1000)
	a := b.reg.SetFault(testregistry.Fault{Act: testregistry.Status, Code: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}})
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Stat = %v, want EBUSY", err)
	}
	a.Release()
	heal(t, b, desc, want)
}

// TestTokenServersRetryAfter: it is a host of its own, and its wish holds.
func TestTokenServersRetryAfter(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
		desc, _ := b.blob(10)
		b.reg.SetFault(testregistry.Fault{Kind: testregistry.Token, Act: testregistry.Status, Code: code, Header: http.Header{"Retry-After": {"1"}}, Times: 1})
		if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
			t.Errorf("Stat: %v", err)
		}
		var at []time.Time
		for _, r := range b.reg.Requests() {
			if r.Kind == testregistry.Token {
				at = append(at, r.At)
			}
		}
		if len(at) != 2 || at[1].Sub(at[0]) < time.Second {
			t.Errorf("%d token requests, at %v, want a second one a second later", len(at), at)
		}
	}
}

// maxConns is how many connections a host has at most, stalled ones included.
const maxConns = 32

// TestWaitingHoldsNoConnection: forty objects are elsewhere, where they are to
// be asked for later; one that is here is served meanwhile.
func TestWaitingHoldsNoConnection(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: time.Hour})
	busy := testregistry.Start(t, nil)
	busy.SetFault(testregistry.Fault{Act: testregistry.Status, Code: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1800"}}})
	const n = 40
	elsewhere := make(map[string]bool)
	var objects []*fetch.Object
	for i := range n {
		desc, _ := b.blob(1000 + i)
		elsewhere[desc.Digest.String()] = true
		objects = append(objects, b.object(desc))
	}
	b.reg.Forget()
	b.reg.SetFault(testregistry.Fault{
		Act: testregistry.RedirectTo, To: busy.URL(),
		Match: func(q *testregistry.Request) bool { return elsewhere[q.Ref] },
	})
	waits, cancel := context.WithCancel(t.Context())
	ended := make(chan error, n)
	for _, o := range objects {
		go func() {
			_, err := o.ReadAt(waits, make([]byte, 10), 0)
			ended <- err
		}()
	}
	b.reg.Wait(t, func(rs []testregistry.Request) bool { return len(rs) >= maxConns })
	here, want := b.blob(mib)
	check(t, b.object(here), want, 0, mib)
	if len(ended) != 0 {
		t.Errorf("%d of those that wait ended before, the first with %v", len(ended), <-ended)
	}
	cancel()
	for range n {
		<-ended
	}
	if got := len(busy.Requests()); got > 8 {
		t.Errorf("%d requests where one would do", got)
	}
}

// TestA500IsAskedAgainOnce and no more.
func TestA500IsAskedAgainOnce(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, _ := b.blob(2 * mib)
	o := b.object(desc)
	b.reg.Forget()
	b.reg.SetFault(testregistry.Fault{Act: testregistry.Status, Code: http.StatusInternalServerError})
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("ReadAt = %v, want EIO", err)
	}
	if got := b.reg.Count("", ""); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}

// TestHeadRefused: then the first byte of a blob, or all of a manifest, tells.
func TestHeadRefused(t *testing.T) {
	for name, fault := range map[string]testregistry.Fault{
		"405":       {Act: testregistry.Status, Code: http.StatusMethodNotAllowed},
		"400":       {Act: testregistry.Status, Code: http.StatusBadRequest},
		"403":       {Act: testregistry.Status, Code: http.StatusForbidden},
		"501":       {Act: testregistry.Status, Code: http.StatusNotImplemented},
		"500":       {Act: testregistry.Status, Code: http.StatusInternalServerError},
		"no length": {Act: testregistry.NoLength},
	} {
		b := setup(t, nil, nil)
		desc, want := b.blob(3 * mib)
		m := []byte(`{"schemaVersion":2}`)
		dgst := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)
		fault.Method = http.MethodHead
		b.reg.SetFault(fault)
		got, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
		if err != nil || got.Size != desc.Size {
			t.Errorf("%s: Stat = %v, %v", name, got, err)
		}
		if r := b.reg.Ranges(desc.Digest); len(r) != 1 || r[0] != "bytes=0-0" {
			t.Errorf("%s: GETs of the ranges %q, want bytes=0-0", name, r)
		}
		if sent := b.reg.Sent(desc.Digest); sent > 1 {
			t.Errorf("%s: %d bytes to learn a size", name, sent)
		}
		got, err = b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
		if err != nil || got.Digest != dgst || got.Size != int64(len(m)) {
			t.Errorf("%s: Resolve = %v, %v", name, got, err)
		}
		check(t, b.object(desc), want, 0, 10)
	}
}

// TestManifestsArePlain: one GET without a range, of at most 4 MiB; and a host
// that answers it whole is not taken for one without ranges.
func TestManifestsArePlain(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	m := append([]byte(`{"schemaVersion":2}`), bytes.Repeat([]byte(" "), 2*mib)...)
	dgst := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)
	o := b.object(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: int64(len(m))})
	check(t, o, m, 0, int64(len(m)))
	if r := b.reg.Ranges(dgst); len(r) != 1 || r[0] != "" {
		t.Errorf("GETs of the ranges %q, want one of all", r)
	}
	blob, want := b.blob(9 * mib)
	check(t, b.object(blob), want, 5*mib, 10)
	if got := b.reg.Sent(blob.Digest); got != mib {
		t.Errorf("%d bytes of the blob, want a chunk", got)
	}
	b.reg.AddManifest(b.loc.Path, "big", ocispec.MediaTypeImageManifest, bytes.Repeat([]byte(" "), 4*mib+1))
	b.reg.SetFault(testregistry.Fault{Method: http.MethodHead, Act: testregistry.Status, Code: http.StatusMethodNotAllowed})
	if _, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "big"}); !errors.Is(err, syscall.EIO) {
		t.Errorf("Resolve of a manifest of more than 4 MiB = %v, want EIO", err)
	}
}

// TestSignatureEndsMidBlob: each signed URL is good for two requests.
func TestSignatureEndsMidBlob(t *testing.T) {
	b := setup(t, &testregistry.Options{Redirect: true, SignatureUses: 2}, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(12 * mib)
	o := b.object(desc)
	for _, c := range []int64{11, 1, 9, 3, 7, 5, 0, 2, 4, 6, 8, 10} {
		check(t, o, want, c*mib+5, 10)
	}
	if err := o.Verify(ctx(t)); err != nil {
		t.Error(err)
	}
	if got := b.reg.Sent(desc.Digest); got > desc.Size+16<<10 { // and the words of refusals
		t.Errorf("%d bytes sent of %d", got, desc.Size)
	}
}

// TestETagChanges: who has the object open gets an error, who opens it next has
// it from zero; a weak tag, and one that changes for ever, means nothing.
func TestETagChanges(t *testing.T) {
	tag := func(b *bench, etag string, times int) {
		b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.Headers, Header: http.Header{"Etag": {etag}}, Times: times})
	}
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(9 * mib)
	o := b.object(desc)
	tag(b, `"one"`, 2)
	check(t, o, want, 0, 10)
	check(t, o, want, 3*mib, 10)
	tag(b, `"two"`, 0)
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 6*mib); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), `"one\"`) {
		t.Errorf("ReadAt = %v, want EIO that names the change", err)
	}
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("ReadAt of what came before = %v, want EIO", err)
	}
	b.reg.Forget()
	b.reg.ClearFaults()
	tag(b, `"three"`, 0)
	for err := o.Bad(); err != nil; { // the next to open begins anew
		o.Close()
		o = b.object(desc)
		_, err = o.ReadAt(ctx(t), make([]byte, 10), 0)
	}
	b.reg.ClearFaults()
	tag(b, `"four"`, 0)
	check(t, o, want, 6*mib, 10)
	if err := o.Verify(ctx(t)); err != nil {
		t.Errorf("Verify: %v", err)
	}
	check(t, o, want, 0, desc.Size)
	if got := b.reg.Sent(desc.Digest); got != desc.Size {
		t.Errorf("%d bytes sent, want all %d anew", got, desc.Size)
	}

	weak, want := b.blob(9*mib + 1)
	o = b.object(weak)
	tag(b, `W/"one"`, 1)
	check(t, o, want, 0, 10)
	tag(b, `W/"two"`, 0)
	check(t, o, want, 6*mib, 10)
}
