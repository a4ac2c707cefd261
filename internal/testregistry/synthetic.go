package testregistry

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	pageSize  = 4 << 10
	blockSize = 1 << 20
)

// A Synthetic is a large blob that costs no memory: one pseudo-random MiB over and
// over, in which each page of 4 KiB starts with its own number (8 bytes, little endian),
// so that no two pages are the same. Seed makes blobs differ.
// It does not compress, and its bytes depend on nothing but its fields.
type Synthetic struct {
	Seed uint64
	Size int64
}

var block = sync.OnceValue(func() []byte {
	var seed [32]byte
	copy(seed[:], "distfs synthetic blob")
	b := make([]byte, blockSize)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
})

// ReadAt is as [io.ReaderAt] has it.
func (s Synthetic) ReadAt(p []byte, off int64) (int, error) {
	want := len(p)
	p = p[:max(0, min(int64(want), s.Size-off))]
	for n := 0; n < len(p); {
		n += copy(p[n:], block()[(off+int64(n))%blockSize:])
	}
	var stamp [8]byte
	for page := off / pageSize; page*pageSize < off+int64(len(p)); page++ {
		binary.LittleEndian.PutUint64(stamp[:], uint64(page)^s.Seed)
		switch at := page*pageSize - off; {
		case at >= 0:
			copy(p[at:], stamp[:])
		case at > -8:
			copy(p, stamp[-at:])
		}
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// From returns a reader of the bytes from off to the end.
func (s Synthetic) From(off int64) io.Reader { return io.NewSectionReader(s, off, s.Size-off) }

// Digest computes the sha256 digest of all of s.
func (s Synthetic) Digest() digest.Digest {
	d := digest.Canonical.Digester()
	buf := make([]byte, blockSize)
	_, _ = io.CopyBuffer(struct{ io.Writer }{d.Hash()}, s.From(0), buf) // neither side fails
	return d.Digest()
}
