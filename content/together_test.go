package content_test

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"distfs/content"
)

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
