package content_test

import (
	"sync"
	"testing"
)

// TestOpenBesideTheEnd: stores are opened, which sweeps, while ingests end.
func TestOpenBesideTheEnd(t *testing.T) {
	s := newStore(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					open(t, s.Dir())
				}
			}
		})
	}
	for i := range 200 {
		b := randomBytes(uint64(1000+i), 100)
		g := ingest(t, s, expect(b))
		fill(t, g, b)
		if err := finish(g); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}
