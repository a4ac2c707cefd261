package content_test

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

func TestOneOwnerHashes(t *testing.T) {
	s := newStore(t)
	b := randomBytes(8, 2*mib)
	e := expect(b)
	g := ingest(t, s, e)
	h := ingest(t, s, e)
	e.Origin = "elsewhere.example.com"
	if ok, err := ingest(t, s, e).TryOwn(); !ok || err != nil { // nobody's slowness delays another origin
		t.Fatalf("TryOwn of another origin = %v, %v", ok, err)
	}
	if ok, err := g.TryOwn(); !ok || err != nil {
		t.Fatalf("TryOwn = %v, %v", ok, err)
	}
	if ok, err := g.TryOwn(); !ok || err != nil {
		t.Errorf("TryOwn again = %v, %v", ok, err)
	}
	if ok, err := h.TryOwn(); ok || err != nil {
		t.Errorf("TryOwn of another = %v, %v", ok, err)
	}
	if err := g.Verify(); !errors.Is(err, content.ErrAbsent) {
		t.Errorf("Verify of what isn't there = %v", err)
	}
	if _, err := g.Commit(); err == nil {
		t.Error("Commit of what isn't verified succeeded")
	}
	g.Disown()
	if ok, err := h.TryOwn(); !ok || err != nil {
		t.Errorf("TryOwn after Disown = %v, %v", ok, err)
	}
	if ok, err := g.TryOwn(); ok || err != nil {
		t.Errorf("TryOwn = %v, %v", ok, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if ok, err := g.TryOwn(); !ok || err != nil {
		t.Errorf("TryOwn after Close = %v, %v", ok, err)
	}
}

func TestAdvanceStopsAtGap(t *testing.T) {
	s := newStore(t)
	b := randomBytes(9, 5*mib)
	g := ingest(t, s, expect(b))
	if _, err := g.TryOwn(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ chunk, limit, want int64 }{
		{1, math.MaxInt64, 0}, {0, 10, 10}, {3, mib, mib + 10}, {2, math.MaxInt64, 4 * mib}, {4, 0, 4 * mib},
	} {
		fill(t, g, b, c.chunk)
		if got, err := g.Advance(c.limit); got != c.want || err != nil {
			t.Errorf("Advance(%d) after chunk %d = %d, %v, want %d", c.limit, c.chunk, got, err, c.want)
		}
	}
	if err := g.Verify(); err != nil {
		t.Error(err)
	}
}

func TestMismatch(t *testing.T) {
	s := newStore(t)
	b := randomBytes(10, 2*mib+5)
	e := expect(b)
	g := ingest(t, s, e)
	bad := bytes.Clone(b)
	bad[mib+1] ^= 1
	fill(t, g, bad)
	err := finish(g)
	var wrong *content.MismatchError
	if !errors.As(err, &wrong) || wrong.Want != e.Digest || wrong.Got != digest.FromBytes(bad) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Verify = %v, want a MismatchError", err)
	}
	if !strings.Contains(err.Error(), string(wrong.Want)) || !strings.Contains(err.Error(), string(wrong.Got)) {
		t.Errorf("Verify = %v, want both digests named", err)
	}
	if _, err := g.Commit(); err == nil {
		t.Error("Commit of wrong bytes succeeded")
	}
	other := ingest(t, s, e)
	if err := g.Discard(); err != nil {
		t.Fatal(err)
	}
	wantNoBlob(t, s, e.Digest)
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
	if g.State() != content.Discarded || other.State() != content.Discarded {
		t.Errorf("States = %d, %d, want Discarded", g.State(), other.State())
	}
	_, claimErr := other.Claim(0, 1)
	_, ownErr := other.TryOwn()
	_, writeErr := g.WriteAt(b[:1], 0)
	for i, err := range []error{claimErr, ownErr, writeErr} {
		if !errors.Is(err, content.ErrDiscarded) {
			t.Errorf("call %d of a discarded ingest = %v, want ErrDiscarded", i, err)
		}
	}
	if p := make([]byte, 5); true {
		if _, err := other.ReadAt(p, 0); err != nil {
			t.Errorf("ReadAt of a discarded ingest = %v", err)
		}
	}

	again := ingest(t, s, e)
	if again.Resumed() {
		t.Error("discarded bytes were resumed")
	}
	if err := errors.Join(other.Discard(), g.Discard(), other.Close(), g.Close()); err != nil {
		t.Errorf("Discard again = %v", err)
	}
	if again.State() != content.Filling {
		t.Error("Discard has discarded the successor")
	}
	fill(t, again, b)
	if err := finish(again); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}
