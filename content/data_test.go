package content_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"distfs/content"
)

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
