package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"syscall"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

// A pass hashes the whole of an object that cannot be kept: what the ingest has
// from there, the rest as it comes from the remote. It ends with the hash of
// each chunk, and with them everything that is read later can be checked.
type pass struct {
	mu   sync.Mutex // held while it goes on
	hash hash.Hash
	sums []sum // of the chunks that were hashed, in order
}

// maxPasses is how many go on at a time for a host; each has a chunk in memory.
const maxPasses = 4

// ErrNotKept is the kind of error of Commit where the object was verified, and
// could not be kept.
var ErrNotKept = errors.New("verified, and not kept")

// awaitPass waits for a pass over the whole, which it begins where none goes
// on. The lock is held, but not while it waits.
func (p *pull) awaitPass(ctx context.Context) error {
	p.beginPass()
	return p.await(ctx, p.moved, func() (bool, error) {
		if p.bad != nil {
			return false, p.bad
		}
		if p.verified || p.sums != nil {
			return true, nil
		}
		return false, p.passErr
	})
}

// beginPass begins a pass. One that failed a moment ago is not begun again. The
// lock is held.
func (p *pull) beginPass() {
	if p.passing || p.sums != nil || time.Now().Before(p.unpassed) {
		return
	}
	p.passErr, p.progress = nil, time.Now()
	p.passing = p.f.begin(func() {
		sums, err := p.runPass()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.passing = false
		p.endPass(sums, err)
		p.announce()
		p.kick()
	})
}

// endPass takes what came of a pass. The lock is held.
func (p *pull) endPass(sums []sum, err error) {
	_, wrong := errors.AsType[*content.MismatchError](err)
	switch {
	case p.bad != nil:
	case wrong:
		p.spoil(err)
	case err != nil:
		p.passErr, p.unpassed = err, time.Now().Add(restFor)
	default:
		for c, s := range p.shown {
			if sums[c] != s {
				p.spoil(&shownError{c})
				return
			}
		}
		p.sums, p.shown = sums, nil
	}
}

// spoil ends the object: no byte of it may be served any more. The lock is held.
func (p *pull) spoil(err error) {
	p.bad = err
	p.distrust()
	p.f.opts.Log.Error("wrong bytes", "origin", p.key.origin, "err", p.named(err))
	p.throwAway()
	p.disown()
	p.announce()
}

// follow hashes on after chunk c came, so that a pass finds its work done where
// the object was read in sequence.
func (p *pull) follow(c int64) {
	if !p.pass.mu.TryLock() {
		return
	}
	defer p.pass.mu.Unlock()
	next := int64(len(p.pass.sums))
	if c < next || !p.keeps(next, c) {
		return
	}
	b := make([]byte, content.ChunkSize)
	for p.passKept(b) {
	}
}

// keeps says whether the ingest has the chunks from first up to, without, end.
func (p *pull) keeps(first, end int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return first == end || p.in != nil && p.in.Has(first, end-first)
}

// passKept hashes the next chunk if it is here, with b as a buffer. The pass's
// lock is held.
func (p *pull) passKept(b []byte) bool {
	c := int64(len(p.pass.sums))
	if c >= p.chunks() {
		return false
	}
	chunk := b[:p.offset(c+1)-p.offset(c)]
	if l := p.f.loose.peek(looseKey{p, c}); l != nil {
		chunk = l
	} else if !p.readKept(chunk, c) {
		return false
	}
	p.passOn(chunk)
	return true
}

// passOn hashes the next chunk.
func (p *pull) passOn(chunk []byte) {
	if p.pass.hash == nil {
		p.pass.hash = p.desc.Digest.Algorithm().Hash()
	}
	p.pass.hash.Write(chunk)
	p.pass.sums = append(p.pass.sums, sha256.Sum256(chunk))
	p.mu.Lock()
	p.progress = time.Now()
	p.mu.Unlock()
}

// runPass hashes what is not hashed yet, and compares. What failed is gone on
// with by the next.
func (p *pull) runPass() ([]sum, error) {
	if p.chunks() > maxUnkept {
		return nil, &kindError{fmt.Errorf("%d chunks are too many to be verified without being kept", p.chunks()), syscall.ENOSPC}
	}
	leave, err := p.place(p.f.passes)
	if err != nil {
		return nil, err
	}
	defer leave()
	p.pass.mu.Lock()
	defer p.pass.mu.Unlock()
	b := make([]byte, content.ChunkSize)
	patience := newPatience(p.f.opts.Timeout)
	for {
		for p.passKept(b) {
		}
		before := len(p.pass.sums)
		if int64(before) == p.chunks() {
			return p.comparePass()
		}
		err := p.passRemote(b)
		if len(p.pass.sums) > before {
			patience.renew()
		}
		if err == nil {
			continue
		}
		if d, again := patience.pause(p.f.ctx, err); !again || !sleep(p.f.ctx, d) {
			return nil, err
		}
	}
}

func (p *pull) comparePass() ([]sum, error) {
	if p.chunks() == 0 {
		p.pass.hash = p.desc.Digest.Algorithm().Hash()
	}
	got := digest.NewDigest(p.desc.Digest.Algorithm(), p.pass.hash)
	if got != p.desc.Digest {
		return nil, &content.MismatchError{Ref: p.name(), Want: p.desc.Digest, Got: got}
	}
	return p.pass.sums, nil
}

// passRemote hashes on over what the remote sends, up to what the ingest has.
func (p *pull) passRemote(b []byte) error {
	first := int64(len(p.pass.sums))
	end := p.gap(first)
	ctx, moved, stop := p.f.patient(p.f.ctx)
	defer stop()
	body, err := p.get(ctx, p.offset(first), p.offset(end)-p.offset(first))
	if err != nil {
		return err
	}
	defer body.Close()
	p.sentBy(body)
	p.answered()
	r := movingReader{body, moved}
	if err := skip(r, p.offset(first)-body.Offset); err != nil {
		return kind(ctx, err)
	}
	for c := first; c < end; c++ {
		chunk := b[:p.offset(c+1)-p.offset(c)]
		if _, err := io.ReadFull(r, chunk); err != nil {
			return kind(ctx, err)
		}
		if c >= p.chunks()-maxLoose/2 { // whoever waits for the digest reads here next
			chunk = append([]byte(nil), chunk...)
			if err := p.admit(c, chunk); err != nil {
				return err
			}
			p.f.loose.put(looseKey{p, c}, chunk)
		}
		p.passOn(chunk)
	}
	return nil
}

// gap is where the chunks end that the ingest lacks from first on; not so far
// that a connection would stay for long.
func (p *pull) gap(first int64) int64 {
	end := min(first+maxSegment, p.chunks())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return end
	}
	at, n := p.in.Missing(first, end-first)
	if n == 0 || at != first {
		return min(first+1, end) // it came just now
	}
	return first + n
}
