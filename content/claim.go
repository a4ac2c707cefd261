package content

import "sync"

// claims are the chunks that one Ingest holds the claim of: its locks exclude other Ingests, these its own goroutines.
type claims struct {
	mu   sync.Mutex
	bits []uint64 // a bit a chunk; guarded by mu
}

func (c *claims) has(i int64) bool {
	return i/64 < int64(len(c.bits)) && c.bits[i/64]&(1<<(i%64)) != 0
}

func (c *claims) add(first, n int64) {
	if need := (first+n+63)/64 - int64(len(c.bits)); n > 0 && need > 0 {
		c.bits = append(c.bits, make([]uint64, need)...)
	}
	for i := first; i < first+n; i++ {
		c.bits[i/64] |= 1 << (i % 64)
	}
}

func (c *claims) remove(i int64) { c.bits[i/64] &^= 1 << (i % 64) }

// hold says whether all n chunks from first on are held.
func (c *claims) hold(first, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := first; i < first+n; i++ {
		if !c.has(i) {
			return false
		}
	}
	return true
}

// Claim takes the right to write up to n chunks from first on, and returns how many it took: it stops before the first chunk
// that is there, or that another goroutine, Ingest or process has claimed. 0 means that first itself is not to be had now.
// Who has claimed a chunk releases it, whether it was written or not; Close and the end of the process do so too.
func (g *Ingest) Claim(first, n int64) (int64, error) {
	if err := g.enter(); err != nil {
		return 0, err
	}
	defer g.life.RUnlock()
	if g.ranges.state() == Discarded {
		return 0, g.wrap(ErrDiscarded)
	}
	g.claims.mu.Lock()
	defer g.claims.mu.Unlock()
	n = g.free(first, n)
	n, err := g.lockRun(first, n)
	if err != nil {
		return 0, g.wrap(err)
	}
	// Who held a claim until now may have written the chunk.
	if k := g.free(first, n); k < n {
		g.lock.unlock(first+k, n-k)
		n = k
	}
	g.claims.add(first, n)
	return n, nil
}

// free returns how many of the n chunks from first on are neither there nor claimed here, up to the first that is.
func (g *Ingest) free(first, n int64) int64 {
	first, n = g.clip(first, n)
	end := g.ranges.next(first, first+n, true)
	for i := first; i < end; i++ {
		if g.claims.has(i) {
			return i - first
		}
	}
	return end - first
}

// lockRun locks as many of the n chunks from first on as nobody else has locked, up to the first that somebody has.
func (g *Ingest) lockRun(first, n int64) (int64, error) {
	for n > 0 {
		ok, err := g.lock.try(first, n)
		if ok || err != nil {
			return n, err
		}
		start, ok, err := g.lock.held(first, n)
		switch {
		case err != nil:
			return 0, err
		case ok:
			n = min(n, start-first) // less than before, for the lock that is held overlaps
		}
		// else it was let go of just now
	}
	return 0, nil
}

// Release gives back the claims on those of the n chunks from first on that this Ingest holds.
func (g *Ingest) Release(first, n int64) {
	if g.enter() != nil {
		return // Close has released them
	}
	defer g.life.RUnlock()
	g.claims.mu.Lock()
	defer g.claims.mu.Unlock()
	first, n = g.clip(first, n)
	for i := first; i < first+n; i++ {
		if !g.claims.has(i) {
			continue
		}
		k := i
		for ; k < first+n && g.claims.has(k); k++ {
			g.claims.remove(k)
		}
		g.lock.unlock(i, k-i)
		i = k - 1
	}
}

// clip returns the part of n chunks from first on that a blob of this size has.
func (g *Ingest) clip(first, n int64) (int64, int64) {
	chunks := mapChunks(g.Total())
	if first < 0 || first >= chunks || n <= 0 {
		return 0, 0
	}
	return first, min(n, chunks-first)
}
