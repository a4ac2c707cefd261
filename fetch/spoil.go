package fetch

import (
	"os"

	"github.com/opencontainers/go-digest"
)

// Spoil says that the store's blob dgst was found bad and moved away. Who has it open reads no more of it, and the next Open
// begins anew. One that has the right bytes, which came since, is left alone.
func (f *Fetcher) Spoil(dgst digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, p := range f.pulls {
		if key.dgst == dgst {
			p.rotted()
		}
	}
}

// rotted ends the pull if its file is not the store's. The Fetcher's lock is held.
func (p *pull) rotted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil || p.bad != nil {
		return
	}
	if now, err := p.stored(); err == nil {
		same := sameFile(now, p.file)
		now.Close()
		if same {
			return
		}
	}
	p.bad = broken("the bytes in the store were found to have another digest")
	p.f.part(p)
	p.announce()
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}
