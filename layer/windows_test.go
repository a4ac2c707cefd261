package layer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// wideLayer is a layer that asks for the largest window, and is one span.
func wideLayer(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(32<<20), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	if err := testlayer.WriteTar(w, testlayer.Reg("f", content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stuckReader ends with its context behind what is there.
type stuckReader struct {
	io.Reader
	ctx   context.Context //nolint:containedctx // it is a reader of one test
	stuck func()
}

func (r *stuckReader) Read(p []byte) (int, error) {
	if n, err := r.Reader.Read(p); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	r.stuck()
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// TestStuckScans makes the index of a layer that is here while as many layers as there
// is memory for wait for their hosts: they make way for it.
func TestStuckScans(t *testing.T) {
	b := wideLayer(t, text(11, 9<<20))
	cache := layer.NewCache(64 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var given atomic.Int64
	var scans, stuck sync.WaitGroup
	const many = 4
	stuck.Add(many)
	for range many {
		work, giveUp := context.WithCancel(ctx)
		defer giveUp()
		r := &stuckReader{bytes.NewReader(b[:len(b)/2]), work, sync.OnceFunc(stuck.Done)}
		opts := &layer.Options{Cache: cache, GiveUp: func() { given.Add(1); giveUp() }}
		scans.Go(func() {
			if _, err := layer.MakeIndex(work, r, opts); !errors.Is(err, context.Canceled) {
				t.Errorf("MakeIndex of what is stuck = %v, want %v", err, context.Canceled)
			}
		})
	}
	stuck.Wait()
	if _, err := layer.MakeIndex(ctx, bytes.NewReader(b), &layer.Options{Cache: cache}); err != nil {
		t.Error(err)
	}
	if n := given.Load(); n != 1 {
		t.Errorf("%d were given up, want 1", n)
	}
	cancel()
	scans.Wait()
}

// TestStuckReads reads in a layer that is here while readers of many others, which were
// here and are no longer, wait for their hosts. They go on when these answer.
func TestStuckReads(t *testing.T) {
	want := text(12, 9<<20)
	b := wideLayer(t, want)
	ix := makeIndex(t, b)
	cache := layer.NewCache(64 << 20)
	const many = 6
	answer := make(chan struct{})
	var begun, readers sync.WaitGroup
	begun.Add(4) // for which there is memory
	var waiting atomic.Int64
	for i := range many {
		f := &faulty{blob: b}
		var read atomic.Int64
		once := sync.OnceFunc(func() {
			if waiting.Add(1) <= 4 {
				begun.Done()
			}
		})
		f.hook = func(ctx context.Context, p []byte, _ int64) error {
			if read.Add(int64(len(p))) <= ix.Spans[0].Len+pieces { // it is verified first, and its first piece is here
				return nil
			}
			once()
			select {
			case <-answer:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		readers.Go(func() {
			p := make([]byte, 1000)
			c := layer.NewContent(ix, f, string(rune('a'+i)), cache)
			if _, err := c.ReadAt(t.Context(), find(t, ix, "f"), p, 8<<20); err != nil || string(p) != want[8<<20:][:1000] {
				t.Errorf("a reader that was stuck has %.10q, %v", p, err)
			}
		})
	}
	begun.Wait()
	p := make([]byte, 1000)
	if _, err := layer.NewContent(ix, blob(b), "here", cache).ReadAt(t.Context(), find(t, ix, "f"), p, 8<<20); err != nil || string(p) != want[8<<20:][:1000] {
		t.Errorf("a reader of what is here has %.10q, %v", p, err)
	}
	close(answer)
	readers.Wait()
}

// pieces are the bytes of a large span that are held against a digest at a time.
const pieces = 1 << 20
