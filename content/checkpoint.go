package content

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A checkpoint is due after so many bytes, or so long. On a fast line that many bytes come several times a second: there
// syncing them at once would take the processor and the journal from who receives, reads and hashes (a fifth of the time of a
// cold read), and a checkpoint loses no more of the time that it took to fetch than it does on a slow line.
const (
	checkpointBytes = 64 << 20
	checkpointTime  = 5 * time.Second
	checkpointPause = 2 * time.Second // at least, between two that so many bytes make due
)

// checkpoints say what of an ingest is still to be synced.
type checkpoints struct {
	dirty atomic.Int64 // bytes Done since the last checkpoint
	last  atomic.Int64 // when that was, in nanoseconds

	mu    sync.Mutex // one at a time
	named bool       // the names of the ingest are on the disk; guarded by mu
}

// begin has one due at once if an earlier process left much.
func (c *checkpoints) begin(m *rangeMap) {
	for _, r := range m.runs(written) {
		c.dirty.Add(r.n * ChunkSize)
	}
	if c.dirty.Load() < checkpointBytes {
		c.last.Store(time.Now().UnixNano())
	}
}

// Due says whether it is time for a Checkpoint: 64 MiB were Done since the last one and it is 2 s ago, or some were and it is
// 5 s ago. Of what is derived none is due, and Checkpoint does nothing.
func (g *Ingest) Due() bool {
	if g.e.Derived {
		return false
	}
	dirty, ago := g.disk.dirty.Load(), time.Duration(time.Now().UnixNano()-g.disk.last.Load())
	return dirty >= checkpointBytes && ago >= checkpointPause || dirty > 0 && ago >= checkpointTime
}

// Checkpoint makes the chunks that are done by now outlive a power cut. It may run beside readers and writers.
// If the disk can't sync them, nobody knows what it holds: the ingest is discarded.
func (g *Ingest) Checkpoint() error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.life.RUnlock()
	return g.checkpoint()
}

func (g *Ingest) checkpoint() error {
	if g.e.Derived {
		return nil
	}
	c := &g.disk
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty := c.dirty.Swap(0) // before looking: what is done meanwhile is looked at twice rather than never
	c.last.Store(time.Now().UnixNano())
	if g.ranges.state() != Filling {
		return nil
	}
	runs := g.ranges.runs(written)
	if len(runs) == 0 {
		return nil
	}
	if err := fdatasync(g.data); err != nil {
		return g.wrap(errors.Join(err, g.discard()))
	}
	for _, r := range runs {
		if err := g.ranges.set(r.first, r.n, synced); err != nil {
			c.dirty.Add(dirty)
			return g.wrap(err)
		}
	}
	if err := fdatasync(g.ranges.f); err != nil {
		return g.wrap(errors.Join(err, g.discard()))
	}
	if c.named {
		return nil
	}
	if err := errors.Join(syncPath(filepath.Join(g.dir(), "expect")), syncPath(g.dir()), syncPath(g.s.path("ingest"))); err != nil {
		if g.ranges.state() != Filling {
			return nil // committed or discarded meanwhile, and the directory is gone
		}
		return g.wrap(err)
	}
	c.named = true
	return nil
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
