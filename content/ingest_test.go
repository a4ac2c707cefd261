package content_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

func TestIngest(t *testing.T) {
	for _, size := range []int{0, 1, mib - 1, mib, mib + 1, 5*mib + 77} {
		s := newStore(t)
		b := randomBytes(3, size)
		e := expect(b)
		g := ingest(t, s, e)
		if g.Total() != e.Total || g.Chunks() != (e.Total+mib-1)/mib || g.Resumed() || g.State() != content.Filling {
			t.Errorf("Total, Chunks, Resumed, State = %d, %d, %v, %d", g.Total(), g.Chunks(), g.Resumed(), g.State())
		}
		if at, n := g.Missing(0, math.MaxInt64); at != 0 || n != g.Chunks() {
			t.Errorf("Missing = %d, %d, want 0, %d", at, n, g.Chunks())
		}
		fill(t, g, b)
		for _, c := range [][2]int64{{-1, 1}, {0, 0}, {0, g.Chunks() + 1}, {0, math.MaxInt64}, {1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}} {
			if g.Has(c[0], c[1]) {
				t.Errorf("Has(%d, %d) of %d chunks", c[0], c[1], g.Chunks())
			}
		}
		got, err := io.ReadAll(io.NewSectionReader(g, 0, math.MaxInt64))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("reads %d bytes, %v, want %d", len(got), err, len(b))
		}
		if ok, err := g.TryOwn(); err != nil || !ok {
			t.Fatalf("TryOwn = %v, %v", ok, err)
		}
		if n, err := g.Advance(e.Total / 2); err != nil || n != e.Total/2 {
			t.Errorf("Advance(%d) = %d, %v", e.Total/2, n, err)
		}
		if err := g.Verify(); err != nil {
			t.Fatal(err)
		}
		if g.State() != content.Filling {
			t.Error("Verify has ended the ingest")
		}
		desc, err := g.Commit()
		if err != nil || desc.Digest != e.Digest || desc.Size != e.Total {
			t.Fatalf("Commit = %v, %v", desc, err)
		}
		if g.State() != content.Committed || size > 0 && !g.Has(0, g.Chunks()) {
			t.Errorf("State = %d after Commit", g.State())
		}
		if _, err := g.Commit(); err != nil {
			t.Errorf("Commit again = %v", err)
		}
		f, err := s.Blob(e.Digest)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		wantSameFile(t, f.Name(), g.File())
		g.Disown()
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, b)
		if _, err := s.Ingest(e); !errors.Is(err, iofs.ErrExist) {
			t.Errorf("Ingest of a blob that is there = %v, want fs.ErrExist", err)
		}
	}
}

func wantSameFile(t *testing.T, path string, f *os.File) {
	t.Helper()
	a, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Stat()
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("%s is another file, %v", path, err)
	}
}

func TestSHA512(t *testing.T) {
	s := newStore(t)
	b := randomBytes(4, 2*mib+1)
	e := expect(b)
	e.Digest = digest.SHA512.FromBytes(b)
	g := ingest(t, s, e)
	fill(t, g, b)
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Stat(e.Digest); err != nil || info.Size != e.Total {
		t.Errorf("Stat = %v, %v", info, err)
	}
}

func TestReadAbsent(t *testing.T) {
	s := newStore(t)
	b := randomBytes(5, 3*mib+100)
	g := ingest(t, s, expect(b))
	fill(t, g, b, 1, 3)
	p := make([]byte, 10)
	for _, c := range []struct {
		off, n int64
		want   error
	}{
		{0, 1, content.ErrAbsent},
		{mib - 1, 1, content.ErrAbsent},
		{mib - 1, 2, content.ErrAbsent},
		{mib, 10, nil},
		{2*mib - 5, 5, nil},
		{2*mib - 5, 6, content.ErrAbsent},
		{3*mib + 90, 10, nil},
		{3*mib + 95, 10, io.EOF},
		{3*mib + 100, 1, io.EOF},
		{9 * mib, 1, io.EOF},
	} {
		n, err := g.ReadAt(p[:c.n], c.off)
		if !errors.Is(err, c.want) {
			t.Errorf("ReadAt(%d bytes at %d) = %d, %v, want %v", c.n, c.off, n, err, c.want)
		}
		if err == nil && !bytes.Equal(p[:n], b[c.off:c.off+c.n]) {
			t.Errorf("ReadAt(%d bytes at %d) has other bytes", c.n, c.off)
		}
	}
	if _, err := g.ReadAt(p, -1); err == nil {
		t.Error("ReadAt at -1 succeeded")
	}
}

func TestWriteNeedsClaim(t *testing.T) {
	s := newStore(t)
	b := randomBytes(6, 3*mib)
	g := ingest(t, s, expect(b))
	if n, err := g.Claim(1, 1); n != 1 || err != nil {
		t.Fatalf("Claim = %d, %v", n, err)
	}
	for _, c := range []struct {
		off int64
		n   int
		ok  bool
	}{
		{mib, mib, true},
		{mib + 5, 10, true},
		{mib - 1, 2, false},
		{2*mib - 1, 2, false},
		{0, 1, false},
		{-1, 1, false},
		{3*mib - 1, 2, false},
		{math.MaxInt64, 1, false},
		{math.MaxInt64 - 1, 10, false},
		{7, 0, true},
	} {
		if _, err := g.WriteAt(b[:c.n], c.off); (err == nil) != c.ok {
			t.Errorf("WriteAt(%d bytes at %d) = %v, want ok %v", c.n, c.off, err, c.ok)
		}
	}
	for _, c := range [][2]int64{{0, 1}, {0, 2}, {1, 2}, {3, 1}, {-1, 2}, {1, math.MaxInt64}} {
		if err := g.Done(c[0], c[1]); err == nil {
			t.Errorf("Done(%d, %d) succeeded", c[0], c[1])
		}
	}
	if err := g.Done(1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(b[:1], mib); err == nil {
		t.Error("WriteAt changed a chunk that is done")
	}
	g.Release(1, 1)
	if n, err := g.Claim(1, 1); n != 0 || err != nil {
		t.Errorf("Claim of what is there = %d, %v", n, err)
	}
}

func TestOnlyOwnerHashes(t *testing.T) {
	s := newStore(t)
	b := randomBytes(8, 2*mib)
	e := expect(b)
	g := ingest(t, s, e)
	_, advanceErr := g.Advance(1)
	_, commitErr := g.Commit()
	for _, err := range []error{advanceErr, commitErr, g.Verify()} {
		if err == nil {
			t.Error("who doesn't own it may hash")
		}
	}
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

func TestResume(t *testing.T) {
	s := newStore(t)
	b := randomBytes(11, 6*mib+9)
	e := expect(b)
	g := ingest(t, s, e)
	fill(t, g, b, 0, 2, 6)
	before := time.Now()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := s.IngestStatus(e.Digest, e.Origin)
	if err != nil || st.Ref != e.Ref || st.Offset != mib || st.Total != e.Total || st.Local != 2*mib+9 || st.Expected != e.Digest ||
		st.Origin != e.Origin || st.Started.After(before) || before.Sub(st.Started) > time.Minute || st.Updated.Before(st.Started.Add(-time.Second)) {
		t.Errorf("IngestStatus = %+v, %v", st, err)
	}
	if _, err := s.IngestStatus(e.Digest, "mirror.example.com"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("IngestStatus of another origin = %v, want fs.ErrNotExist", err)
	}
	e.Ref = "example.com/b:other" // a label only
	g = ingest(t, open(t, s.Dir()), e)
	if !g.Resumed() {
		t.Error("Resumed() = false")
	}
	if got, want := chunksOf(g), []int64{0, 2, 6}; !slices.Equal(got, want) {
		t.Errorf("has %v, want %v", got, want)
	}
	if all, err := s.Ingests(); err != nil || len(all) != 1 || all[0].Ref != st.Ref || !all[0].Started.Equal(st.Started) {
		t.Errorf("Ingests() = %+v, %v, want %+v", all, err, st)
	}
	fill(t, g, b, 1, 3, 4, 5)
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}

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

func TestUnknownTotal(t *testing.T) {
	s := newStore(t)
	b := randomBytes(14, 3*mib+100)
	e := content.Expect{Ref: "key", Total: -1}
	g := ingest(t, s, e)
	if g.Total() != -1 || g.Chunks() != -1 {
		t.Errorf("Total, Chunks = %d, %d", g.Total(), g.Chunks())
	}
	fill(t, g, b, 0, 1)
	if n, err := g.Claim(3, 1); n != 1 || err != nil {
		t.Fatalf("Claim = %d, %v", n, err)
	}
	if _, err := g.WriteAt(b[3*mib:], 3*mib); err != nil {
		t.Fatal(err)
	}
	if err := g.Done(3, 1); err == nil {
		t.Error("Done of a chunk that may be cut succeeded")
	}
	if at, n := g.Missing(0, 5); at != 2 || n != 3 {
		t.Errorf("Missing = %d, %d, want 2, 3", at, n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = ingest(t, s, e)
	if !g.Resumed() || !g.Has(0, 2) || g.Has(2, 1) || g.Has(3, 1) {
		t.Error("the ingest was not resumed as it was")
	}
	fill(t, g, b, 2)
	if ok, err := g.TryOwn(); !ok || err != nil {
		t.Fatalf("TryOwn = %v, %v", ok, err)
	}
	if err := g.Verify(); err == nil {
		t.Error("Verify without an end succeeded")
	}
	var size *content.SizeError
	if err := g.End(2 * mib); !errors.As(err, &size) {
		t.Errorf("End within what is there = %v, want a SizeError", err)
	}
	if n, err := g.Claim(3, 1); n != 1 || err != nil {
		t.Fatalf("Claim = %d, %v", n, err)
	}
	if _, err := g.WriteAt(b[3*mib:], 3*mib); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.End(int64(len(b))), g.Done(3, 1), g.End(int64(len(b))), g.Verify()); err != nil {
		t.Fatal(err)
	}
	if err := g.End(5); !errors.As(err, &size) {
		t.Errorf("another End = %v, want a SizeError", err)
	}
	desc, err := g.Commit()
	if err != nil || desc.Digest != digest.FromBytes(b) || desc.Size != int64(len(b)) {
		t.Errorf("Commit = %v, %v", desc, err)
	}
	wantBlob(t, s, b)
}

// A total that becomes known later cuts off nothing that is there.
func TestTotalBecomesKnown(t *testing.T) {
	s := newStore(t)
	b := randomBytes(15, 3*mib)
	g := ingest(t, s, content.Expect{Ref: "key", Total: -1})
	fill(t, g, b, 0, 1)
	g.Close()
	if err := ingestError(s, content.Expect{Ref: "key", Total: mib}); err == nil {
		t.Error("a total below what is there was taken")
	}
	g = ingest(t, s, content.Expect{Ref: "key", Total: 3 * mib, Digest: digest.FromBytes(b)})
	if !g.Has(0, 2) || g.Chunks() != 3 {
		t.Errorf("has %v of %d chunks", chunksOf(g), g.Chunks())
	}
	fill(t, g, b, 2)
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}

func TestClosedIngest(t *testing.T) {
	s := newStore(t)
	b := randomBytes(16, 2*mib)
	g := ingest(t, s, expect(b))
	fill(t, g, b, 0)
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	_, readErr := g.ReadAt(b, 0)
	_, writeErr := g.WriteAt(b, 0)
	_, claimErr := g.Claim(1, 1)
	_, ownErr := g.TryOwn()
	_, advanceErr := g.Advance(1)
	_, commitErr := g.Commit()
	for i, err := range []error{
		readErr, writeErr, claimErr, ownErr, advanceErr, commitErr,
		g.Done(1, 1), g.Checkpoint(), g.Verify(), g.Discard(), g.End(5),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("call %d of a closed ingest = %v, want os.ErrClosed", i, err)
		}
	}
	g.Release(0, 1)
	g.Disown()
	if g.Has(0, 1) || g.State() != content.Filling || g.Total() != 2*mib {
		t.Errorf("Has, State, Total of a closed ingest = %v, %d, %d", g.Has(0, 1), g.State(), g.Total())
	}
	if _, n := g.Missing(0, 2); n != 0 {
		t.Errorf("Missing of a closed ingest counts %d", n)
	}
}

// Close in the midst of everything: nothing may touch what is unmapped.
func TestCloseWhileBusy(t *testing.T) {
	s := newStore(t)
	b := randomBytes(17, 16*mib)
	for range 10 {
		g := ingest(t, s, expect(b))
		var wg sync.WaitGroup
		var started sync.WaitGroup
		closed := make(chan struct{})
		busy := func(f func()) {
			started.Add(1)
			wg.Go(func() {
				f()
				started.Done()
				for {
					f()
					select {
					case <-closed:
						return
					default:
					}
				}
			})
		}
		busy(func() { g.Has(0, 16) })
		busy(func() { g.Missing(0, 16) })
		busy(func() { g.State() })
		busy(func() { g.ReadAt(make([]byte, 100), 3*mib) })
		busy(func() {
			for i := range int64(16) {
				put(g, b, i)
			}
		})
		busy(func() { g.Checkpoint() })
		busy(func() { g.TryOwn(); g.Advance(3 * mib); g.Disown() })
		started.Wait()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		close(closed)
		wg.Wait()
		if err := s.Abort(expect(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDue(t *testing.T) {
	s := newStore(t)
	b := randomBytes(18, 70*mib)
	synctest.Test(t, func(t *testing.T) {
		g := ingest(t, s, expect(b))
		defer g.Close()
		time.Sleep(time.Hour)
		if g.Due() {
			t.Error("Due() with nothing done")
		}
		if err := g.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		fill(t, g, b, 0)
		if g.Due() {
			t.Error("Due() after a chunk")
		}
		time.Sleep(5 * time.Second)
		if !g.Due() {
			t.Error("not Due() after 5 s")
		}
		if err := g.Checkpoint(); err != nil || g.Due() {
			t.Errorf("Checkpoint = %v, Due() = %v", err, g.Due())
		}
		for i := range int64(64) {
			if g.Due() {
				t.Errorf("Due() after %d MiB", i)
			}
			fill(t, g, b, 1+i)
		}
		if !g.Due() {
			t.Error("not Due() after 64 MiB")
		}
	})
}

// fillers in one process: two Ingests, several goroutines each, one reader of each.
func TestGoroutinesFillTogether(t *testing.T) {
	s := newStore(t)
	b := randomBytes(19, 40*mib+3)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := fetch(s, b); err != nil {
				t.Error(err)
			}
		})
	}
	g := ingest(t, s, expect(b))
	for range 3 {
		wg.Go(func() {
			for at := int64(0); at < g.Chunks() && g.State() == content.Filling; {
				p := make([]byte, 1000)
				_, err := g.ReadAt(p, at*mib+5)
				if errors.Is(err, content.ErrAbsent) {
					if err := put(g, b, at); err != nil && !strings.Contains(err.Error(), "claimed") {
						t.Error(err)
					}
					continue
				}
				if err == nil && !bytes.Equal(p, b[at*mib+5:][:1000]) {
					t.Errorf("chunk %d has other bytes", at)
				}
				at++
			}
		})
	}
	wg.Wait()
	g.Close()
	wantBlob(t, s, b)
}

// What Missing says to be there is there, also while others fill.
func TestMissingBesideWriters(t *testing.T) {
	s := newStore(t)
	b := randomBytes(45, 3*mib)
	for range 30 {
		g := ingest(t, s, expect(b))
		done := make(chan error)
		go func() { done <- fillMissing(g, b) }()
		for !g.Has(0, 3) {
			if _, n := g.Missing(0, 3); n == 0 && !g.Has(0, 3) {
				t.Error("Missing says that nothing is absent, Has that something is")
			}
		}
		if err := errors.Join(<-done, g.Discard(), g.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Ingests are made, opened, discarded and committed all at once: whoever fails does so for a reason that he knows.
func TestOpenAndEndTogether(t *testing.T) {
	s := newStore(t)
	b := randomBytes(46, mib+5)
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for range 100 {
				g, err := s.Ingest(expect(b))
				if err == nil {
					err = errors.Join(tryToEnd(g, b, k%2 == 0), g.Close())
				}
				if err != nil && !errors.Is(err, iofs.ErrExist) && !errors.Is(err, content.ErrDiscarded) {
					t.Error(err)
				}
				if err := s.Delete(expect(b).Digest); err != nil && !errors.Is(err, iofs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if g, err := s.Ingest(expect(b)); err == nil {
		if err := errors.Join(g.Discard(), g.Close()); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

// tryToEnd discards g, or fills and commits it as far as others let it.
func tryToEnd(g *content.Ingest, b []byte, discard bool) error {
	for i := range g.Chunks() {
		n, err := g.Claim(i, 1)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if _, err := g.WriteAt(b[i*mib:min((i+1)*mib, int64(len(b)))], i*mib); err != nil {
			return err
		}
		if err := g.Done(i, 1); err != nil {
			return err
		}
		g.Release(i, 1)
	}
	if discard {
		return g.Discard()
	}
	if ok, err := g.TryOwn(); err != nil || !ok {
		return err
	}
	err := g.Verify()
	if errors.Is(err, content.ErrAbsent) {
		return nil // another is writing it
	}
	if err != nil {
		return err
	}
	_, err = g.Commit()
	return err
}
