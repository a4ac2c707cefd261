package fs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"syscall"
)

// proven are the contents that a layer has shown to have. A table of contents may name
// any digest: what is kept under it, because another layer had it, is served under this
// one only after this one's own bytes had the digest.
type proven struct {
	mu  sync.Mutex
	has map[[sha256.Size]byte]bool // guarded by mu
}

// object returns what to read the part by: obj, unless that is kept and not proven, and
// the part too large to prove it by reading it. What is not kept proves itself, for the
// engine reads it from the part.
func (p *proven) object(ctx context.Context, obj Object, part layerPart) (Object, error) {
	want := part.inode.Digest
	switch {
	case obj.File() == nil:
		p.add(want)
		return obj, nil
	case p.is(want):
		return obj, nil
	case part.inode.Size > maxProof:
		obj.Close()
		return partObject{part}, nil
	}
	b := make([]byte, part.inode.Size)
	n, err := part.ReadAt(ctx, b, 0)
	if int64(n) < part.inode.Size {
		obj.Close()
		return nil, fmt.Errorf("%d of %d bytes: %w", n, part.inode.Size, err)
	}
	if got := sha256.Sum256(b); got != want {
		obj.Close()
		return nil, fmt.Errorf("content of the digest sha256:%x where the table of contents says sha256:%x: %w", got, want, syscall.EIO)
	}
	p.add(want)
	return obj, nil
}

// maxProof is the size up to which a file is read to be proven, in bytes.
const maxProof = 1 << 20

func (p *proven) is(dgst [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[dgst]
}

func (p *proven) add(dgst [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.has == nil {
		p.has = make(map[[sha256.Size]byte]bool)
	}
	p.has[dgst] = true
}
