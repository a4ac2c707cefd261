package layer

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWindows has many want windows of all sizes: together they have no more than there
// is, and all have their turn.
func TestWindows(t *testing.T) {
	c := NewCache(1)
	var taken, most atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			w := c.window()
			defer w.release()
			for range 50 {
				size := r.Int64N(maxWindow) + 1
				if size <= smallWindow {
					continue
				}
				if err := w.grow(t.Context(), size); err != nil {
					t.Error(err)
					return
				}
				now := taken.Add(size)
				for m := most.Load(); m < now && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				taken.Add(-size)
				w.release()
			}
		})
	}
	all.Wait()
	if c.windows.left != allWindows || most.Load() > allWindows {
		t.Errorf("%d bytes are left and %d were taken, want %d and no more than that", c.windows.left, most.Load(), allWindows)
	}
}

// TestSmallWindow is always to be had.
func TestSmallWindow(t *testing.T) {
	c := NewCache(1)
	for range allWindows / maxWindow {
		if err := c.window().grow(t.Context(), maxWindow); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.window().grow(t.Context(), smallWindow); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.window().grow(ctx, smallWindow+1); !errors.Is(err, context.Canceled) || c.windows.wanted() {
		t.Errorf("grow where there is none left = %v, want %v", err, context.Canceled)
	}
}

// TestStuckWindows takes from those alone who wait for their blobs, and no more than is
// wanted.
func TestStuckWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache(1)
		const n = allWindows / maxWindow
		var gaveUp [n]bool
		var works sync.WaitGroup
		for i := range n {
			w := c.window()
			work, end := w.lend(t.Context())
			if err := w.grow(work, maxWindow); err != nil {
				t.Fatal(err)
			}
			works.Go(func() {
				wait := func() (int, error) { <-work.Done(); return 0, work.Err() }
				if i == 0 { // decodes, for long
					time.Sleep(time.Hour)
					w.release()
					return
				}
				_, err := w.reading(wait)
				gaveUp[i] = errors.Is(end(err), errGivenUp)
			})
		}
		time.Sleep(time.Minute)
		w := c.window()
		if err := w.grow(t.Context(), 2*maxWindow); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if want := [n]bool{1: true, 2: true}; gaveUp != want {
			t.Errorf("given up are %v, want %v", gaveUp, want)
		}
		w.release()
		for _, w := range slices.Clone(c.windows.held) {
			if w.giveUp != nil {
				w.giveUp()
			}
		}
		works.Wait()
		if c.windows.left != allWindows {
			t.Errorf("%d bytes are left, want %d", c.windows.left, allWindows)
		}
	})
}
