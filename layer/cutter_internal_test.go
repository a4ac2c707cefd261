package layer

import (
	"math/rand/v2"
	"testing"
)

// TestPointWindows keeps no more of windows than a part of what the layer itself has, once
// they are many; a member's header, which needs none, begins a span as before.
func TestPointWindows(t *testing.T) {
	window := make([]byte, historySize)
	random := rand.NewChaCha8([32]byte{})
	for _, every := range []int64{1 << 10, 2 << 20} { // bytes of the blob for a point
		c := newCutter()
		points := freeWindows/historySize + 500
		for i := range points {
			_, _ = random.Read(window)
			c.at += every
			if err := c.point(point{in: c.at, out: int64(i+1) * deflateSpan, window: window}, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.point(point{in: c.at, out: int64(points+1) * deflateSpan, header: true}, 0); err != nil {
			t.Fatal(err)
		}
		spans := c.finish(int64(points+2) * deflateSpan)
		kept := int64(0)
		for _, s := range spans {
			kept += int64(len(s.Window))
		}
		most := freeWindows + c.at/windowPart + 2*historySize
		last := spans[len(spans)-1]
		if kept > most || kept < freeWindows || last.Kind != GzipAt || last.Size != deflateSpan || every > 1<<20 && len(spans) != points+2 {
			t.Errorf("a point each %d bytes: %d bytes of windows, want %d at most, in %d spans", every, kept, most, len(spans))
		}
	}
}
