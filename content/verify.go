package content

import (
	"errors"
	"fmt"
	"hash"
	"io"
	iofs "io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// A front is how far this Ingest has hashed. What is there never changes, so what is hashed stays so, whoever is the owner.
type front struct {
	mu     sync.Mutex
	owner  bool
	hash   hash.Hash // of the first hashed bytes
	hashed int64
	got    digest.Digest // of all bytes, once Verify found it right
}

func (f *front) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = false
}

// TryOwn makes this Ingest the one that hashes and commits, or says that another one is, in this process or another. It is an
// agreement by which the work is done once, and no more than that: who finds that the owner stands still does without. By key
// the one writer always has it. Another origin's ingest of the same digest has an owner of its own: who sends slowly, or
// nothing, delays nobody else's readers.
//
// The error is fs.ErrExist if the blob was in the store by the time: the ingest has ended, the blob is to be opened.
func (g *Ingest) TryOwn() (bool, error) {
	if err := g.enter(); err != nil {
		return false, err
	}
	defer g.life.RUnlock()
	f := &g.front
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := g.filling(); err != nil {
		return false, err
	}
	if f.owner {
		return true, nil
	}
	if g.e.shared() {
		if ok, err := g.lock.try(ownByte, 1); err != nil || !ok {
			return false, err
		}
	}
	err := g.supersede()
	if err == nil {
		err = g.filling()
	}
	f.owner = err == nil
	if err != nil && g.e.shared() {
		g.lock.unlock(ownByte, 1)
	}
	return f.owner, err
}

// supersede ends the ingest if its blob is in the store: by another origin, or by a process that died in Commit.
func (g *Ingest) supersede() error {
	if g.want() == "" {
		return nil
	}
	blob, err := os.Lstat(g.s.goal(g.e, g.want()))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return g.wrap(err)
	}
	st := Discarded
	if fi, err := g.data.Stat(); err == nil && os.SameFile(fi, blob) {
		st = Committed
	}
	return errors.Join(g.wrap(iofs.ErrExist), g.endAtOnce(st))
}

// Disown lets another one hash and commit. What was hashed is kept.
func (g *Ingest) Disown() {
	if g.enter() != nil {
		return
	}
	defer g.life.RUnlock()
	f := &g.front
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = false
	if g.e.shared() {
		g.lock.unlock(ownByte, 1)
	}
}

// Advance hashes on, as far as chunks are there without a gap, but at most limit bytes, and returns how many bytes from the
// beginning are hashed by now. It reads them from the file.
func (g *Ingest) Advance(limit int64) (int64, error) {
	if err := g.enter(); err != nil {
		return 0, err
	}
	defer g.life.RUnlock()
	f := &g.front
	f.mu.Lock()
	defer f.mu.Unlock()
	err := g.advance(limit)
	return f.hashed, err
}

// hashBuffers hold what is read back to be hashed: little enough to stay in a processor's cache.
var hashBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// algorithm is that of the digest that the bytes are to have, or are to get.
func (g *Ingest) algorithm() digest.Algorithm {
	if g.want() != "" {
		return g.want().Algorithm()
	}
	return digest.Canonical
}

func (g *Ingest) advance(limit int64) error {
	f := &g.front
	if f.hash == nil {
		f.hash = g.algorithm().Hash()
	}
	end := g.contiguous(f.hashed)
	if end-f.hashed > limit {
		end = f.hashed + max(limit, 0)
	}
	buf := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buf)
	for f.hashed < end {
		p := buf[:min(int64(len(buf)), end-f.hashed)]
		n, err := g.data.ReadAt(p, f.hashed)
		f.hash.Write(p[:n])
		f.hashed += int64(n)
		if n < len(p) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // another program has cut the file
			}
			return g.wrap(err)
		}
	}
	return nil
}

// contiguous returns up to where all bytes from off on are there.
func (g *Ingest) contiguous(off int64) int64 {
	total := g.Total()
	end := g.ranges.next(off/ChunkSize, mapChunks(total), false) * ChunkSize
	if total >= 0 {
		end = min(end, total)
	}
	return max(end, off)
}

// Verify hashes the rest and compares the digest. All chunks must be there. A *MismatchError changes nothing; the bytes are
// good for nothing but Discard.
func (g *Ingest) Verify() error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.life.RUnlock()
	f := &g.front
	f.mu.Lock()
	defer f.mu.Unlock()
	total := g.Total()
	if total < 0 {
		return g.wrap(errors.New("its end is not known"))
	}
	if err := g.advance(total); err != nil {
		return err
	}
	if f.hashed != total {
		return g.wrap(fmt.Errorf("chunk %d: %w", f.hashed/ChunkSize, ErrAbsent))
	}
	got := digest.NewDigest(g.algorithm(), f.hash)
	if g.want() != "" && got != g.want() {
		return &MismatchError{Ref: g.e.label(), Want: g.want(), Got: got}
	}
	f.got = got
	return nil
}
