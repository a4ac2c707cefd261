package layer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// windows bound the memory of zstd decoders, each of which has its frame's window, by
// what they take together: who wants more waits, first come, first served. Who has one
// waits for none, but perhaps for a host, which may be stuck; so one that had to wait
// for its blob for most of the time is given up when others wait. It begins anew once it
// is its turn again, and what came of the blob is here then.
type windows struct {
	idle func() // lets go of those that nobody uses

	mu    sync.Mutex
	left  int64
	held  []*window // guarded by mu
	queue []*window // who waits; guarded by mu
}

const (
	smallWindow = 1 << 20       // is not counted: there is always memory for one
	allWindows  = 4 * maxWindow // of the others together, in bytes
	patience    = time.Second   // for how long one may wait for its blob while others wait for it
)

// A window is the right to one decoder's. nil has no bounds. It is for one goroutine.
type window struct {
	of *windows

	// Guarded by of.mu.
	size   int64         // that is counted
	giveUp func()        // has the read of the blob end; nil once it was called
	ready  chan struct{} // closed when it is held
	since  time.Time     // when it was taken
	waits  time.Time     // when the read of the blob began that is under way; zero is none
	waited time.Duration // by those before
}

// window returns one of no size.
func (c *Cache) window() *window {
	if c == nil {
		return nil
	}
	return &window{of: &c.windows}
}

// use sets what is called, once, if w is to be let go of. The blob's read that is
// under way ends then.
func (w *window) use(giveUp func()) {
	if w == nil {
		return
	}
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.giveUp, w.since, w.waited = giveUp, time.Now(), 0
}

// fits says whether w is of that size or more.
func (w *window) fits(size int64) bool { return w == nil || size <= max(w.size, smallWindow) }

// grow makes w one of that size, and may wait. What w had is let go of first, so that its
// decoder must be gone.
func (w *window) grow(ctx context.Context, size int64) error {
	w.release()
	if w.fits(size) {
		return nil
	}
	ready := w.of.ask(w, size)
	select {
	case <-ready:
		return nil
	default:
	}
	w.of.idle()
	for {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			w.release()
			return context.Cause(ctx)
		case <-time.After(patience):
			w.of.press()
		}
	}
}

// growing returns what grows w for a decoder, through which an error goes as one of the blob.
func (w *window) growing(ctx context.Context) func(size int64) error {
	return func(size int64) error {
		if err := w.grow(ctx, size); err != nil {
			return &blobError{err}
		}
		return nil
	}
}

// errGivenUp is that others wait for the memory of a decoder that waits for its blob.
var errGivenUp = errors.New("the memory for its decoder was wanted")

// lend returns a context for work with w that ends if w is to be let go of. end is called
// with the work's error, lets go of w if there is one, and returns errGivenUp if that is why.
func (w *window) lend(ctx context.Context) (work context.Context, end func(error) error) {
	work, giveUp := context.WithCancelCause(ctx)
	w.use(func() { giveUp(errGivenUp) })
	return work, func(err error) error {
		defer giveUp(nil)
		if err == nil {
			return nil
		}
		w.release()
		if context.Cause(work) == errGivenUp { //nolint:errorlint // it is this one
			return errGivenUp
		}
		return err
	}
}

// release lets go of it, or of its place among those who wait.
func (w *window) release() {
	if w == nil {
		return
	}
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if i := slices.Index(w.of.held, w); i >= 0 {
		w.of.held = slices.Delete(w.of.held, i, i+1)
		w.of.left += w.size
	} else if i := slices.Index(w.of.queue, w); i >= 0 {
		w.of.queue = slices.Delete(w.of.queue, i, i+1)
	}
	w.size = 0
	w.of.grant()
}

// reading does what reads the blob.
func (w *window) reading(read func() (int, error)) (int, error) {
	if w == nil {
		return read()
	}
	w.of.mu.Lock()
	w.waits = time.Now()
	w.of.mu.Unlock()
	n, err := read()
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.waited += time.Since(w.waits)
	w.waits = time.Time{}
	return n, err
}

// read reads all of p from the blob.
func (w *window) read(ctx context.Context, blob Blob, p []byte, off int64) error {
	_, err := w.reading(func() (int, error) { return 0, readFull(ctx, blob, p, off) })
	return err
}

// ask has w wait for that size.
func (ws *windows) ask(w *window, size int64) (ready <-chan struct{}) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.size, w.ready = size, make(chan struct{})
	ws.queue = append(ws.queue, w)
	ws.grant()
	return w.ready
}

// grant gives those who wait what there is. ws.mu is held.
func (ws *windows) grant() {
	for len(ws.queue) > 0 && ws.queue[0].size <= ws.left {
		w := ws.queue[0]
		ws.queue = ws.queue[1:]
		ws.left -= w.size
		w.since, w.waited = time.Now(), 0
		ws.held = append(ws.held, w)
		close(w.ready)
	}
}

// press gives up what the first who waits can't do without.
func (ws *windows) press() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.queue) == 0 {
		return
	}
	lacking := ws.queue[0].size - ws.left
	for _, w := range ws.held {
		if lacking <= 0 {
			return
		}
		if w.giveUp != nil && w.stuck() {
			w.giveUp()
			w.giveUp = nil
		}
		if w.giveUp == nil { // it is on its way
			lacking -= w.size
		}
	}
}

// stuck says whether w has waited for its blob for most of the time. of.mu is held.
func (w *window) stuck() bool {
	waited := w.waited
	if !w.waits.IsZero() {
		waited += time.Since(w.waits)
	}
	return waited >= patience && 2*waited >= time.Since(w.since)
}

// wanted says whether somebody waits.
func (ws *windows) wanted() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.queue) > 0
}

// windowOf is how large a window a frame asks for, of whose header head has all.
func windowOf(head []byte) int64 {
	var h zstd.Header
	if h.Decode(head) != nil {
		return 0 // as the decoder will say
	}
	size := h.WindowSize
	if h.SingleSegment {
		size = h.FrameContentSize
	}
	return int64(min(size, maxWindow)) // one of more has no decoder
}
