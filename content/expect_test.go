package content_test

import (
	"errors"
	iofs "io/fs"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

func TestOriginsNeverMeet(t *testing.T) {
	s := newStore(t)
	b := randomBytes(12, 2*mib)
	e := expect(b)
	evil := e
	evil.Origin = "evil.example.com"
	g, h := ingest(t, s, e), ingest(t, s, evil)
	fill(t, h, make([]byte, 2*mib))
	if got := chunksOf(g); got != nil {
		t.Errorf("chunks %v came from another origin", got)
	}
	if err := finish(h); !errors.Is(err, syscall.EIO) {
		t.Errorf("Verify = %v, want EIO", err)
	}
	h.Disown()
	fill(t, g, b)
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	g.Disown()
	if _, err := h.TryOwn(); !errors.Is(err, iofs.ErrExist) {
		t.Errorf("TryOwn of a blob that is there = %v, want fs.ErrExist", err)
	}
	if h.State() != content.Discarded {
		t.Errorf("State = %d, want Discarded", h.State())
	}
	wantBlob(t, s, b)
}

func TestConflicts(t *testing.T) {
	s := newStore(t)
	b := randomBytes(13, 100)
	e := expect(b)
	ingest(t, s, e)
	other := e
	other.Total++
	wantConflict(t, s, other, "total", "100", "101")

	keyed := content.Expect{Ref: "key", Digest: e.Digest, Total: 100}
	reopen := func(e content.Expect) error { return ingestError(s, e) }
	if err := reopen(content.Expect{Ref: "key", Total: -1}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []content.Expect{{Ref: "key", Total: 100}, keyed, {Ref: "key", Total: -1}, {Ref: "key", Digest: e.Digest, Total: -1}} {
		if err := reopen(e); err != nil { // nothing known is contradicted
			t.Errorf("Ingest(%+v) = %v", e, err)
		}
	}
	other = keyed
	other.Total = 99
	wantConflict(t, s, other, "total", "100", "99")
	other = keyed
	other.Digest = digest.FromString("other")
	wantConflict(t, s, other, "digest", string(keyed.Digest), string(other.Digest))
	if err := s.Abort(keyed); err != nil {
		t.Fatal(err)
	}
	if err := reopen(other); err != nil {
		t.Errorf("Ingest after Abort = %v", err)
	}
	if err := s.Abort(content.Expect{Ref: "no such"}); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Abort of none = %v, want fs.ErrNotExist", err)
	}
}

func wantConflict(t *testing.T, s *content.Store, e content.Expect, what, have, want string) {
	t.Helper()
	err := ingestError(s, e)
	var conflict *content.ConflictError
	if !errors.As(err, &conflict) || conflict.What != what || conflict.Have != have || conflict.Want != want {
		t.Errorf("Ingest = %v, want a ConflictError of %s %s and %s", err, what, have, want)
	}
}

func TestBadExpectations(t *testing.T) {
	s := newStore(t)
	dgst := digest.FromString("x")
	for _, e := range []content.Expect{
		{},
		{Digest: dgst},
		{Digest: dgst, Origin: "o", Total: -1},
		{Digest: dgst, Origin: "o", Total: -2},
		{Ref: "k", Total: -2},
		{Digest: dgst, Origin: "o", Total: math.MaxInt64},
		{Ref: "k", Total: 1<<44 + 1},
		{Ref: strings.Repeat("k", 5000)},
		{Digest: dgst, Origin: strings.Repeat("o", 5000)},
	} {
		if err := ingestError(s, e); err == nil || len(err.Error()) > 500 {
			t.Errorf("Ingest(%.100v) = %.500v, want an error", e, err)
		}
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
	wantEmpty(t, filepath.Join(s.Dir(), "locks"))
}
