package layer_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// TestWait reads without the blob what was waited for, and hears of what can't be had.
func TestWait(t *testing.T) {
	want := text(1, 6<<20)
	for name, b := range inFormats(t, testlayer.Tar(t, testlayer.Reg("f", want))) {
		ix := makeIndex(t, b)
		ino := find(t, ix, "f")
		lost := errors.New("lost")
		f := &faulty{blob: b}
		c := layer.NewContent(ix, f, name, layer.NewCache(64<<20))
		const off, n = 3 << 20, 1 << 20
		if err := c.Wait(t.Context(), ino, off, n); err != nil {
			t.Errorf("%s: Wait = %v", name, err)
		}
		f.hook = func(context.Context, []byte, int64) error { return lost }
		p := make([]byte, n)
		if m, err := c.ReadAt(t.Context(), ino, p, off); m != n || string(p) != want[off:off+n] || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s: ReadAt of what was waited for = %d, %v", name, m, err)
		}
		c = layer.NewContent(ix, f, name, layer.NewCache(64<<20))
		if err := c.Wait(t.Context(), ino, off, n); !errors.Is(err, lost) {
			t.Errorf("%s: Wait = %v, want %v", name, err, lost)
		}
	}
}
