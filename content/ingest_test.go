package content_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"math"
	"os"
	"testing"

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
