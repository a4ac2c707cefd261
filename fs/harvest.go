package fs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"distfs/layer"
)

// A harvest has the content of all files of a layer kept, in the order in which it
// lies there: then each part of the layer is fetched and decompressed once, by one
// stream, in whatever order the files are read. It begins when files of the layer are
// read one after the other, and ends when nobody reads there any more.
type harvest struct {
	mu      sync.Mutex
	misses  int       // files that were not kept, read one soon after the other; guarded by mu
	last    time.Time // when a file was opened; guarded by mu
	running bool      // guarded by mu
	done    bool      // all was gone through; guarded by mu
}

const (
	harvestAfter  = 24              // such files
	harvestGap    = time.Second     // that soon
	harvestIdle   = 5 * time.Second // nobody reads
	harvestersPer = 2               // goroutines for a layer: one decompresses while the other writes
)

// opened notes that a file of the layer was opened, and whether its content was kept.
func (l *layerFiles) opened(kept bool) {
	if l.s.quiet || !l.harvest.begins(kept) {
		return
	}
	l.s.beside(func(ctx context.Context) { l.harvest.end(l.reap(ctx)) })
}

func (h *harvest) begins(kept bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	soon := now.Sub(h.last) < harvestGap
	h.last = now
	switch {
	case kept || h.running || h.done:
		return false
	case !soon:
		h.misses = 0
	}
	h.misses++
	h.running = h.misses >= harvestAfter
	return h.running
}

func (h *harvest) end(all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running, h.done, h.misses = false, all, 0
}

// idle says whether nobody has opened a file for some time.
func (h *harvest) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.last) > harvestIdle
}

// goesOn says whether it does.
func (h *harvest) goesOn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// reap goes through the files, and says whether it came to their end. Who reads a file
// that can't be had hears of it; here the next one is tried.
func (l *layerFiles) reap(ctx context.Context) bool {
	files := make(chan *layer.Inode)
	ctx, cancel := context.WithCancel(ctx)
	var reapers sync.WaitGroup
	reapers.Go(func() { l.fetch(ctx) })
	for range harvestersPer {
		reapers.Go(func() {
			for ino := range files {
				l.keepFile(ctx, ino)
			}
		})
	}
	defer cancel()
	defer reapers.Wait()
	for _, ino := range l.inOrder() {
		if ctx.Err() != nil || l.harvest.idle() {
			cancel()
			close(files)
			return false
		}
		files <- ino
	}
	close(files)
	return true
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

// inOrder are the files that have content, as it lies in the layer.
func (l *layerFiles) inOrder() []*layer.Inode {
	ix := l.held()
	var files []*layer.Inode
	for _, ino := range ix.Inodes.All() {
		if ino.Kind == layer.File && ino.Size > 0 && ino.Digest != [32]byte{} {
			files = append(files, ino)
		}
	}
	slices.SortFunc(files, func(a, b *layer.Inode) int { return cmp.Compare(a.Offset, b.Offset) })
	return files
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
