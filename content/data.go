package content

import (
	"errors"
	"fmt"
	"io"
)

// Has says whether all n chunks from first on are there. Of chunks that the blob doesn't have, none is. It costs no call of the
// kernel.
func (g *Ingest) Has(first, n int64) bool {
	g.life.RLock()
	defer g.life.RUnlock()
	_, k := g.clip(first, n)
	return !g.closed && n > 0 && k == n && g.ranges.next(first, first+n, false) == first+n
}

// Missing returns the first run of absent chunks among the n from first on that the blob has. count is 0 if none is absent.
func (g *Ingest) Missing(first, n int64) (at, count int64) {
	g.life.RLock()
	defer g.life.RUnlock()
	if g.closed {
		return first, 0
	}
	first, n = g.clip(first, n)
	for {
		at = g.ranges.next(first, first+n, false)
		count = g.ranges.next(at, first+n, true) - at
		if count > 0 || at == first+n {
			return at, count
		}
		// Chunk at came between the two looks; others behind it may be absent.
	}
}

// ReadAt reads as io.ReaderAt does. The error is ErrAbsent, and nothing is read, if a chunk that p would be filled from is not
// there. The end, and io.EOF, is where the blob ends; while that isn't known, nothing is there behind the last chunk.
func (g *Ingest) ReadAt(p []byte, off int64) (int, error) {
	if err := g.enter(); err != nil {
		return 0, err
	}
	defer g.life.RUnlock()
	end, total := off+int64(len(p)), g.Total()
	if total >= 0 {
		end = min(end, total)
	}
	if off < 0 {
		return 0, g.wrap(fmt.Errorf("offset %d", off))
	}
	if first, n := chunksAt(off, end-off); n > 0 {
		if i := g.ranges.next(first, first+n, false); i < first+n {
			return 0, g.wrap(fmt.Errorf("chunk %d: %w", i, ErrAbsent))
		}
	}
	return g.data.ReadAt(p, off)
}

// WriteAt writes p at off. All chunks that it touches must be claimed, and not yet be done; and it stays within the blob.
// The error is syscall.ENOSPC if the disk is full; what was written before stays.
func (g *Ingest) WriteAt(p []byte, off int64) (int, error) {
	if err := g.enter(); err != nil {
		return 0, err
	}
	defer g.life.RUnlock()
	if len(p) == 0 {
		return 0, nil
	}
	end, limit := off+int64(len(p)), g.Total()
	if limit < 0 {
		limit = maxTotal
	}
	if off < 0 || end < off || end > limit {
		return 0, g.wrap(fmt.Errorf("%d bytes at %d are outside of its %d", len(p), off, limit))
	}
	if err := g.writable(chunksAt(off, int64(len(p)))); err != nil {
		return 0, err
	}
	n, err := g.data.WriteAt(p, off)
	if err != nil {
		return n, g.wrap(noSpace(err))
	}
	return n, nil
}

// Done enters n chunks from first on, which are claimed and written wholly, into the map: they are there from now on, for all
// who have the ingest open. While the total isn't known, only a chunk of ChunkSize bytes is whole.
func (g *Ingest) Done(first, n int64) error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.life.RUnlock()
	if n <= 0 {
		return nil
	}
	if _, k := g.clip(first, n); k != n {
		return g.wrap(fmt.Errorf("chunks %d to %d are not its own", first, first+n-1))
	}
	if err := g.writable(first, n); err != nil {
		return err
	}
	if g.Total() < 0 {
		size, err := sizeOf(g.data)
		if err != nil {
			return g.wrap(err)
		}
		if size < (first+n)*ChunkSize {
			return g.wrap(fmt.Errorf("chunk %d is not whole", first+n-1))
		}
	}
	if err := g.ranges.set(first, n, written); err != nil {
		return g.wrap(err)
	}
	g.disk.dirty.Add(n * ChunkSize)
	return nil
}

// writable refuses to write what isn't claimed, or is there already.
func (g *Ingest) writable(first, n int64) error {
	if err := g.filling(); err != nil {
		return err
	}
	if !g.claims.hold(first, n) {
		return g.wrap(fmt.Errorf("chunks %d to %d are not all claimed", first, first+n-1))
	}
	if i := g.ranges.next(first, first+n, true); i < first+n {
		return g.wrap(fmt.Errorf("chunk %d is there already", i))
	}
	return nil
}

// End says that the blob, whose size wasn't known, ends at total; the last chunk may be Done then.
// It is no record: who resumes the ingest says it again. The error is a *SizeError if another total is known,
// or if there are chunks behind this one.
func (g *Ingest) End(total int64) error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.life.RUnlock()
	if have := g.Total(); have >= 0 {
		if have != total {
			return &SizeError{g.e.label(), have, total}
		}
		return nil
	}
	if err := g.filling(); err != nil {
		return err
	}
	if total < 0 || total > maxTotal {
		return g.wrap(fmt.Errorf("it can't end at %d", total))
	}
	if least := g.ranges.top.Load() * ChunkSize; total < least {
		return &SizeError{g.e.label(), total, least}
	}
	if err := g.data.Truncate(total); err != nil {
		return g.wrap(noSpace(err))
	}
	if !g.total.CompareAndSwap(-1, total) {
		return g.wrap(errors.New("its end was said twice at once"))
	}
	return nil
}

// chunksAt returns the chunks that n bytes from off on touch.
func chunksAt(off, n int64) (first, count int64) {
	if n <= 0 {
		return 0, 0
	}
	first = off / ChunkSize
	return first, (off+n-1)/ChunkSize - first + 1
}

var _ interface {
	io.ReaderAt
	io.WriterAt
} = (*Ingest)(nil)
