package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"sort"
	"sync"

	"github.com/opencontainers/go-digest"

	"distfs/layer"
)

// A layerStream keeps, in one file of the store, what those parts of a layer decode to
// that have its small files. A large file is not among them: that is kept by itself, for
// the kernel to read.
//
// What is in it was held against the digests of the index, and nothing else counts: its
// key has them all.
type layerStream struct {
	s     *server
	layer digest.Digest
	ix    *layer.Index
	fits  bool // the layer is not decompressed from its start
	known func() wantedSpans

	whole lingering[Stream] // once it is whole

	mu     sync.RWMutex // held to read in made
	state  streamState  // guarded by mu
	made   NewStream    // while it is made; guarded by mu
	failed bool         // no more is kept; guarded by mu

	bits sync.Mutex
	have []bool // by span, while it is made; guarded by bits
	left int    // spans that are still wanted; guarded by bits
}

var _ = layer.Kept((*layerStream)(nil))

// A streamState is what is known of the file.
type streamState byte

const (
	streamUnknown streamState = iota
	streamNone
	streamMaking
	streamWhole
)

func newLayerStream(s *server, dgst digest.Digest, ix *layer.Index) *layerStream {
	st := &layerStream{s: s, layer: dgst, ix: ix, fits: !ix.Streamed()}
	st.known = sync.OnceValue(func() wantedSpans { return wantSpans(dgst, ix) })
	st.whole.open = func(context.Context) (Stream, error) { return s.src.Stream(st.known().key) }
	st.whole.close = func(f Stream) { f.Close() }
	return st
}

// has says whether all of a file's content is kept.
func (st *layerStream) has(ctx context.Context, ino *layer.Inode) bool {
	if data := ino.Data(); data != nil {
		for _, s := range data {
			if !st.Has(ctx, s.Offset, s.Length) {
				return false
			}
		}
		return true
	}
	return st.Has(ctx, ino.Offset, ino.Size)
}

// Has says whether n bytes at off are kept.
func (st *layerStream) Has(ctx context.Context, off, n int64) bool {
	switch st.look(ctx) {
	case streamWhole:
		w := st.known()
		return st.all(off, n, func(i int) bool { return w.span[i] })
	case streamMaking:
		st.bits.Lock()
		defer st.bits.Unlock()
		return st.all(off, n, func(i int) bool { return st.have != nil && st.have[i] })
	}
	return false
}

// all says whether ok is true of all spans of a range that have something.
func (st *layerStream) all(off, n int64, ok func(i int) bool) bool {
	spans := st.ix.Spans
	for i := sort.Search(len(spans), func(i int) bool { return spans[i].Out+spans[i].Size > off }); n > 0; i++ {
		if i == len(spans) || spans[i].Kind != layer.Zeros && !ok(i) {
			return false
		}
		n -= spans[i].Out + spans[i].Size - max(off, spans[i].Out)
	}
	return true
}

// look returns the state, and finds it out the first time.
func (st *layerStream) look(ctx context.Context) streamState {
	st.mu.RLock()
	state := st.state
	st.mu.RUnlock()
	if state != streamUnknown {
		return state
	}
	if st.open(ctx) {
		state = streamWhole
	} else {
		state = streamNone
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.state == streamUnknown {
		st.state = state
	}
	return st.state
}

// open opens what is whole, if it is. It stays open for a while.
func (st *layerStream) open(ctx context.Context) bool {
	f, err := st.s.src.Stream(st.known().key)
	if err != nil {
		return false
	}
	st.whole.set(f)
	_, err = st.whole.use(ctx, &st.s.tasks)
	if err == nil {
		st.whole.release()
	}
	return err == nil
}

// Read reads what is kept.
func (st *layerStream) Read(ctx context.Context, p []byte, off int64) bool {
	if !st.Has(ctx, off, int64(len(p))) {
		return false
	}
	if made, ok := st.readMade(p, off); made {
		return ok
	}
	if st.look(ctx) != streamWhole {
		return false
	}
	f, err := st.whole.use(ctx, &st.s.tasks)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) { // evicted
			st.set(streamNone)
		}
		return false
	}
	defer st.whole.release()
	n, _ := f.ReadAt(p, off)
	return n == len(p)
}

// readMade reads from what is being made, if it is: not from what was when it was looked
// what is there.
func (st *layerStream) readMade(p []byte, off int64) (made, ok bool) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.made == nil {
		return false, false
	}
	st.bits.Lock()
	ok = st.all(off, int64(len(p)), func(i int) bool { return st.have[i] })
	st.bits.Unlock()
	if !ok {
		return true, false
	}
	n, _ := st.made.ReadAt(p, off)
	return true, n == len(p)
}

func (st *layerStream) set(state streamState) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.made == nil {
		st.state = state
	}
}

// begin begins to make it, if it is not whole and can be made here; elsewhere is that
// another makes it, or just has.
func (st *layerStream) begin(ctx context.Context) (begun, elsewhere bool) {
	if st.look(ctx) == streamWhole {
		return false, false
	}
	made, err := st.s.src.NewStream(st.known().key)
	if err != nil {
		st.set(streamUnknown) // another may have made it
		if elsewhere = errors.Is(err, iofs.ErrExist); !elsewhere {
			st.s.log.Warn("what a layer decodes to is not kept", "layer", st.layer, "err", err)
		}
		return false, elsewhere
	}
	w := st.known()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.bits.Lock()
	defer st.bits.Unlock()
	st.have, st.left = make([]bool, len(w.span)), w.n
	st.state, st.made, st.failed = streamMaking, made, false
	return true, false
}

// wants says whether the span is still to be kept.
func (st *layerStream) wants(span int) bool {
	if !st.known().span[span] {
		return false
	}
	st.bits.Lock()
	defer st.bits.Unlock()
	return st.have != nil && !st.have[span]
}

// Keep keeps a span while the stream is made.
func (st *layerStream) Keep(span int, b []byte) bool {
	if !st.wants(span) {
		return false
	}
	kept, err := st.keep(span, b)
	if err != nil {
		st.fail(err)
	}
	return kept
}

func (st *layerStream) keep(span int, b []byte) (bool, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.made == nil || st.failed {
		return false, nil
	}
	if _, err := st.made.WriteAt(b, st.ix.Spans[span].Out); err != nil {
		return false, err
	}
	st.bits.Lock()
	defer st.bits.Unlock()
	if !st.have[span] {
		st.have[span] = true
		st.left--
	}
	return true, nil
}

// fail has no more kept: the harvest ends with it, and nothing is left.
func (st *layerStream) fail(err error) {
	st.mu.Lock()
	said := st.failed
	st.failed = true
	st.mu.Unlock()
	if !said {
		st.s.log.Warn("what a layer decodes to is not kept", "layer", st.layer, "err", err)
	}
}

// stopped says whether it is no longer any use to decode for it.
func (st *layerStream) stopped() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.failed
}

// end ends the making: it is whole, or nothing is left of it.
func (st *layerStream) end(ctx context.Context) {
	st.bits.Lock()
	whole := st.left == 0
	st.bits.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state = streamNone
	if whole {
		err := st.made.Commit()
		if err == nil && st.open(ctx) {
			st.state = streamWhole
		} else if err != nil {
			st.s.log.Warn("what a layer decodes to is not kept", "layer", st.layer, "err", err)
		}
	}
	st.made.Close()
	st.made = nil
	st.bits.Lock()
	defer st.bits.Unlock()
	st.have = nil
}
