package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// poll waits until ok, which looks at what has no event of its own.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// state is that of the one object under way, "" for none.
func state(t *testing.T, f *fetch.Fetcher) (fetch.State, fetch.Progress) {
	t.Helper()
	all := f.Active()
	if len(all) == 0 {
		return "", fetch.Progress{}
	}
	if len(all) != 1 {
		t.Fatalf("Active() = %v, want one", all)
	}
	return all[0].State, all[0]
}

func TestActive(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	want := bytes.Repeat([]byte("0123456789abcdef"), 8<<16) // 8 MiB
	dgst := b.reg.AddBlob(b.loc.Path, want)
	if got := b.f.Active(); len(got) != 0 {
		t.Fatalf("Active() = %v before anything is asked for", got)
	}

	head := b.reg.SetFault(testregistry.Fault{Act: testregistry.StallHeaders, Method: http.MethodHead})
	type opened struct {
		obj *fetch.Object
		err error
	}
	objs := make(chan opened)
	go func() {
		obj, err := b.f.Open(context.Background(), b.loc, ocispec.Descriptor{Digest: dgst})
		objs <- opened{obj, err}
	}()
	poll(t, "resolving", func() bool { s, _ := state(t, b.f); return s == fetch.Resolving })
	if _, p := state(t, b.f); p.Ref != b.loc.String()+"@"+dgst.String() || p.Digest != dgst || p.Total != -1 || p.Started.IsZero() {
		t.Errorf("while it is resolved: %+v", p)
	}
	head.Release()
	o := <-objs
	if o.err != nil {
		t.Fatal(o.err)
	}
	defer o.obj.Close()
	if s, p := state(t, b.f); s != "" {
		t.Errorf("an open object that nobody reads is active: %+v", p)
	}

	body := b.reg.SetFault(testregistry.Fault{Act: testregistry.StallHeaders, Method: http.MethodGet})
	read := make(chan error)
	go func() { _, err := o.obj.ReadAt(context.Background(), make([]byte, 10), 3*mib); read <- err }()
	poll(t, "waiting", func() bool { s, _ := state(t, b.f); return s == fetch.Waiting })
	body.Release()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	poll(t, "nothing", func() bool { s, _ := state(t, b.f); return s == "" })
	half := b.reg.SetFault(testregistry.Fault{Act: testregistry.StallBody, Method: http.MethodGet, At: mib + 5})
	verified := make(chan error)
	go func() { verified <- o.obj.Verify(context.Background()) }()
	poll(t, "downloading", func() bool { s, p := state(t, b.f); return s == fetch.Downloading && p.Offset == mib })
	half.Release()
	if err := <-verified; err != nil {
		t.Fatal(err)
	}
	if err := o.obj.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, p := state(t, b.f)
	if s != fetch.Done || p.Here != 8*mib || p.Offset != 8*mib || p.Total != 8*mib || p.Received != 8*mib || p.Rate <= 0 {
		t.Errorf("in the end: %s %+v", s, p)
	}
}

// Bytes that were there before are no part of the rate.
func TestRateOfResumed(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	dgst := b.reg.AddBlob(b.loc.Path, bytes.Repeat([]byte("0123456789abcdef"), 8<<16))
	obj, err := b.f.Open(t.Context(), b.loc, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		t.Fatal(err)
	}
	cut := b.reg.SetFault(testregistry.Fault{Act: testregistry.StallBody, Method: http.MethodGet, At: 6*mib + 5})
	if _, err := obj.ReadAt(t.Context(), make([]byte, 6*mib), 0); err != nil {
		t.Fatal(err)
	}
	obj.Close()
	defer cut.Release()
	b.shut()
	b.open(&fetch.Options{FillBelow: -1})
	stall := b.reg.SetFault(testregistry.Fault{Act: testregistry.StallHeaders, Method: http.MethodGet})
	obj, err = b.f.Open(t.Context(), b.loc, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	done := make(chan error)
	go func() { done <- obj.Verify(context.Background()) }()
	defer func() { stall.Release(); <-done }()
	poll(t, "waiting", func() bool { s, _ := state(t, b.f); return s == fetch.Waiting })
	if _, p := state(t, b.f); p.Here != 6*mib || p.Offset != 6*mib || p.Received != 0 || p.Rate != 0 {
		t.Errorf("of what was resumed: %+v, want no rate", p)
	}
}

func TestStats(t *testing.T) {
	b := setup(t, nil, nil)
	dgst := b.reg.AddBlob(b.loc.Path, []byte("hello\n"))
	obj, err := b.f.Open(t.Context(), b.loc, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	if err := obj.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !obj.Here(0, 6) {
		t.Errorf("Here(0, 6) = false of what is committed")
	}
	if _, err := b.f.Resolve(t.Context(), locator.Reference{Locator: b.loc, Tag: "none"}); err == nil {
		t.Fatal("a tag that is not there is resolved")
	}
	s := b.f.Stats()
	if s.Origin != 6 {
		t.Errorf("%d bytes from the origin, want 6", s.Origin)
	}
	if s.Requests[fetch.Request{Host: b.reg.Host(), Code: "200"}] != 2 || s.Requests[fetch.Request{Host: b.reg.Host(), Code: "404"}] != 1 {
		t.Errorf("requests: %v, want a HEAD and a GET that were answered, and a HEAD that was refused", s.Requests)
	}
}

// A registry may redirect to any number of hosts and answer any number: what
// is counted stays bounded.
func TestStatsAreBounded(t *testing.T) {
	w := fetch.NewWatch()
	for i := range 1000 {
		w.Count(fmt.Sprintf("cdn-%d.example", i), false, &http.Response{StatusCode: 200})
	}
	for i := range 1000 {
		w.Count(fmt.Sprintf("host-%d.example", i), true, &http.Response{StatusCode: 200})
		w.Count("host-1.example", true, &http.Response{StatusCode: i})
	}
	got := w.Counted()
	hosts := map[string]bool{}
	var others int64
	for r, n := range got {
		hosts[r.Host] = true
		if r.Host == "other" {
			others += n
		}
	}
	if len(hosts) != fetch.MaxHosts+1 || others != 2000-fetch.MaxHosts {
		t.Errorf("%d hosts are told apart, %d requests are of others", len(hosts), others)
	}
	if !hosts["host-1.example"] {
		t.Error("redirects have taken the names of the user's own registries")
	}
	if len(got) > fetch.MaxHosts+100 {
		t.Errorf("%d kinds of requests", len(got))
	}
}

// The log at level debug has the whole story in its order, and no secret.
func TestStory(t *testing.T) {
	var log lockedBuffer
	b := setup(t, &testregistry.Options{Redirect: true, Auth: testregistry.BearerAuth}, &fetch.Options{
		FillBelow: -1, Log: slog.New(&labelled{slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})}),
	})
	dgst := b.reg.AddBlob(b.loc.Path, bytes.Repeat([]byte("x"), 5*mib))
	obj, err := b.f.Open(t.Context(), b.loc, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	ctx := context.WithValue(t.Context(), labelKey{}, "reader-1")
	if err := obj.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	if err := obj.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(log.String()) {
		if _, rest, ok := strings.Cut(line, "msg="); ok && strings.Contains(line, "label=reader-1") {
			what, _, _ := strings.Cut(rest, " ")
			told = append(told, what)
		}
	}
	at := -1
	for _, what := range []string{"demand", "claim", "request", "answer", "chunk", "hashed", "verified", "committed"} {
		i := slices.Index(told, what)
		if i <= at {
			t.Fatalf("%s is told at %d, after what is told at %d: %q\n%s", what, i, at, told, log.String())
		}
		at = i
	}
	if !slices.Contains(told, "received") {
		t.Errorf("it is not told what was received: %q", told)
	}
	secrets := 0
	for _, q := range b.reg.Requests() {
		if _, token, ok := strings.Cut(q.Header.Get("Authorization"), " "); ok {
			secrets++
			if strings.Contains(log.String(), token) {
				t.Errorf("the log has the token %q:\n%s", token, log.String())
			}
		}
		if q.Kind == testregistry.CDN && q.Query != "" {
			secrets++
		}
		if q.Query != "" && strings.Contains(log.String(), q.Query) {
			t.Errorf("the log has the query %q:\n%s", q.Query, log.String())
		}
	}
	if secrets < 3 {
		t.Errorf("%d tokens and signatures were sent, want some that could be told", secrets)
	}
}

type labelKey struct{}

// labelled logs the label in a context.
type labelled struct{ slog.Handler }

func (h *labelled) Handle(ctx context.Context, r slog.Record) error {
	if label, ok := ctx.Value(labelKey{}).(string); ok {
		r.AddAttrs(slog.String("label", label))
	}
	return h.Handler.Handle(ctx, r)
}
