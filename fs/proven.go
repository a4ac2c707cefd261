package fs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
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

// object returns what to read the part by: its content, opened by open, as far as it is
// proven that the part has it. A part that is small is read to prove it if another
// layer's content is kept; a larger one is served from its layer then.
func (p *proven) object(ctx context.Context, part layerPart, open func(Content) (Object, error)) (Object, error) {
	if p.is(part.inode.Digest) {
		return open(part)
	}
	proof := &proof{layerPart: part, of: p, sum: sha256.New()}
	obj, err := open(proof)
	if err != nil {
		return nil, err
	}
	o := &unproven{Object: obj, proof: proof}
	if obj.File() == nil {
		return o, nil
	}
	if part.inode.Size > maxProof {
		obj.Close()
		return partObject{part}, nil
	}
	if err := o.prove(ctx); err != nil {
		obj.Close()
		return nil, err
	}
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

// A proof is a part that is proven once it was read from its start to its end.
type proof struct {
	layerPart
	of *proven

	mu   sync.Mutex
	sum  hash.Hash // of what was read first; guarded by mu
	next int64     // how much that is; guarded by mu
}

// ReadAt is the part's.
func (r *proof) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	n, err := r.layerPart.ReadAt(ctx, b, off)
	r.mu.Lock()
	defer r.mu.Unlock()
	if new := off + int64(n) - r.next; off <= r.next && new > 0 {
		r.sum.Write(b[int64(n)-new : n])
		if r.next += new; r.next == r.inode.Size && [sha256.Size]byte(r.sum.Sum(nil)) == r.inode.Digest {
			r.of.add(r.inode.Digest)
		}
	}
	return n, err
}

// An unproven object had nothing kept when it was opened. What is here of it was read
// from the part; but once it is whole it may have become so by another layer.
type unproven struct {
	Object
	proof *proof
}

func (o *unproven) proven() bool { return o.proof.of.is(o.proof.inode.Digest) }

// Here is the object's, and false where it has to be proven.
func (o *unproven) Here(off, n int64) bool {
	return (o.proven() || o.Object.File() == nil) && o.Object.Here(off, n)
}

// ReadAt reads from the object, or from the part what is not proven.
func (o *unproven) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if o.Object.File() == nil || o.proven() {
		n, err := o.Object.ReadAt(ctx, b, off)
		if o.proven() || o.Object.File() == nil { // it did not become whole meanwhile
			return n, err
		}
	}
	if o.Size() <= maxProof {
		if err := o.prove(ctx); err != nil {
			return 0, err
		}
	}
	return o.proof.ReadAt(ctx, b, off)
}

// prove reads the part.
func (o *unproven) prove(ctx context.Context) error {
	b := make([]byte, o.Size())
	n, err := o.proof.ReadAt(ctx, b, 0)
	if int64(n) < o.Size() {
		return fmt.Errorf("%d of %d bytes: %w", n, len(b), err)
	}
	if got, want := sha256.Sum256(b), o.proof.inode.Digest; got != want {
		return fmt.Errorf("content of the digest sha256:%x where the table of contents says sha256:%x: %w", got, want, syscall.EIO)
	}
	o.proof.of.add(o.proof.inode.Digest)
	return nil
}

// File is the object's once it is proven.
func (o *unproven) File() *os.File {
	if !o.proven() {
		return nil
	}
	return o.Object.File()
}
