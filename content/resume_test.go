package content_test

import (
	"errors"
	iofs "io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

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
		if g.Due() {
			t.Error("Due() after 64 MiB in no time")
		}
		time.Sleep(2 * time.Second)
		if !g.Due() {
			t.Error("not Due() after 64 MiB and 2 s")
		}
	})
}
