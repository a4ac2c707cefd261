package fs

import (
	"context"
	"sync"
	"time"

	"distfs/layer"
)

// A harvest has the content of all files of a layer kept. Each part of the layer is
// then fetched and decompressed once, whatever the order in which the files are read:
// it goes through the layer as the content lies there, but what lies beside a file that
// is read comes first, for it was decompressed with it. It begins when files of the
// layer are read one after the other, or one that is decompressed from its start, and ends
// when nobody reads there any more.
type harvest struct {
	mu      sync.Mutex
	misses  int       // files that were not kept, read one soon after the other; guarded by mu
	last    time.Time // when a file was opened; guarded by mu
	reads   int       // of files that are under way; guarded by mu
	read    time.Time // when the last of them ended; guarded by mu
	done    time.Time // when all was gone through, or no more could be kept; guarded by mu
	begun   bool      // and did not end; guarded by mu
	sheaves *sheaves  // what it goes through, once it does; guarded by mu
}

const (
	harvestAfter = 24              // such files; 1 where to read one is to decompress all that lies before it
	harvestGap   = time.Second     // that soon
	harvestIdle  = 5 * time.Second // nobody reads
	harvestRest  = time.Minute     // from one to the next, for what is kept can be evicted, or not be kept at all
)

// opened notes that a file of the layer was opened, and whether its content was kept.
func (l *layerFiles) opened(ino *layer.Inode, kept bool) {
	l.mu.Lock()
	after := l.after
	l.mu.Unlock()
	if l.s.quiet || !l.harvest.begins(ino, kept, after) {
		return
	}
	left := bind(l.held(), !l.keeper().fits)
	l.s.beside(func(ctx context.Context) {
		if !left.strict {
			begun, elsewhere := l.keeper().begin(ctx)
			if !begun {
				l.harvest.end(!elsewhere) // who makes it there will have made it
				return
			}
			defer l.keeper().end(ctx)
		}
		l.harvest.goOn(left)
		l.reap(ctx, left)
		l.harvest.end(left.none() || l.keeper().stopped())
	})
}

// begins says whether the harvest is to begin, and has one that goes on go on beside
// ino.
func (h *harvest) begins(ino *layer.Inode, kept bool, after int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	soon := now.Sub(h.last) < harvestGap
	h.last = now
	switch {
	case kept || now.Sub(h.done) < harvestRest:
		return false
	case h.begun:
		if h.sheaves != nil {
			h.sheaves.urge(ino)
		}
		return false
	case !soon:
		h.misses = 0
	}
	h.misses++
	h.begun = h.misses >= after
	return h.begun
}

func (h *harvest) goOn(left *sheaves) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sheaves = left
}

// end ends it. It rests for a while where there is nothing more to do.
func (h *harvest) end(rests bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun, h.sheaves, h.misses = false, nil, 0
	if rests {
		h.done = time.Now()
	}
}

// goesOn says whether it does.
func (h *harvest) goesOn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sheaves != nil
}

// reading notes that a read of a file begins. end notes that it ended: it may wait for
// its host for long.
func (h *harvest) reading() (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.reads--
		h.read = time.Now()
	}
}

// idle says whether nobody has opened or read a file for some time.
func (h *harvest) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads == 0 && time.Since(h.last) > harvestIdle && time.Since(h.read) > harvestIdle
}

// reap goes through what is left, as long as it can be kept: what was kept so far takes the
// room on a full disk that others want. Who reads a file that can't be had hears of it;
// here the next one is tried.
func (l *layerFiles) reap(ctx context.Context, left *sheaves) {
	ctx, cancel := context.WithCancel(ctx)
	var fetching, reapers sync.WaitGroup
	fetching.Go(func() { l.fetch(ctx) })
	for range left.reapers() {
		reapers.Go(func() {
			for ctx.Err() == nil && !l.harvest.idle() && !l.keeper().stopped() {
				sheaf := left.take()
				if sheaf == nil {
					return
				}
				l.bring(ctx, sheaf)
			}
			if l.keeper().stopped() {
				cancel() // what the other one waits for too
			}
		})
	}
	reapers.Wait()
	if !left.none() {
		cancel()
	}
	fetching.Wait()
	cancel()
}

// bring has all of a sheaf kept.
func (l *layerFiles) bring(ctx context.Context, s *sheaf) {
	for i := s.first; i < s.end && ctx.Err() == nil && !l.keeper().stopped(); i++ {
		if l.keeper().wants(i) {
			_ = l.reader().Decode(ctx, i)
		}
	}
	for _, ino := range s.files {
		if !l.keeper().stopped() {
			l.keepFile(ctx, ino)
		}
	}
}

// fetch has all of the layer fetched, as one stream, where it is not here yet.
func (l *layerFiles) fetch(ctx context.Context) {
	if _, committed := l.s.src.Local(l.loc, l.desc.Digest); !committed.IsZero() {
		return
	}
	obj, err := l.s.src.Open(ctx, l.loc, l.desc)
	if err != nil {
		return
	}
	defer obj.Close()
	_ = obj.Verify(ctx) // who reads a file hears of what is wrong
}

// keepFile has the content of a file kept, if it is not yet.
func (l *layerFiles) keepFile(ctx context.Context, ino *layer.Inode) {
	obj, err := l.openFile(ctx, ino)
	if err != nil {
		return
	}
	defer obj.Close()
	if obj.File() == nil {
		_ = obj.Verify(ctx)
	}
}
