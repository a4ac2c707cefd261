package content_test

import (
	"math"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

// The way of a fetched byte: claim, write, done, hash; then verify and commit. -benchtime=1x is 256 MiB.
func BenchmarkFill(b *testing.B) {
	chunk := randomBytes(40, mib)
	const chunks = 256
	hash := digest.Canonical.Digester()
	for range chunks {
		hash.Hash().Write(chunk)
	}
	e := content.Expect{Ref: "x", Digest: hash.Digest(), Origin: "o", Total: chunks * mib}
	for _, parts := range []struct {
		name         string
		hash, commit bool
	}{{"write", false, false}, {"write+hash", true, false}, {"write+hash+commit", true, true}} {
		b.Run(parts.name, func(b *testing.B) {
			s := newStore(b)
			b.SetBytes(chunks * mib)
			for b.Loop() {
				g, err := s.Ingest(e)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := g.TryOwn(); err != nil {
					b.Fatal(err)
				}
				for i := range int64(chunks) {
					g.Claim(i, 1)
					if _, err := g.WriteAt(chunk, i*mib); err != nil {
						b.Fatal(err)
					}
					if err := g.Done(i, 1); err != nil {
						b.Fatal(err)
					}
					g.Release(i, 1)
					if parts.hash {
						if _, err := g.Advance(math.MaxInt64); err != nil {
							b.Fatal(err)
						}
					}
				}
				if parts.commit {
					if err := g.Verify(); err != nil {
						b.Fatal(err)
					}
					if _, err := g.Commit(); err != nil {
						b.Fatal(err)
					}
				} else if err := g.Discard(); err != nil {
					b.Fatal(err)
				}
				g.Close()
				if parts.commit {
					if err := s.Delete(e.Digest); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkHas(b *testing.B) {
	s := newStore(b)
	data := randomBytes(41, 64*mib)
	g := ingest(b, s, expect(data))
	fill(b, g, data)
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			g.Has(17, 1)
		}
	})
	b.Run("64", func(b *testing.B) {
		for b.Loop() {
			g.Has(0, 64)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.Has(17, 1)
			}
		})
	})
	b.Run("ReadAt 128 KiB", func(b *testing.B) {
		p := make([]byte, 128<<10)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			if _, err := g.ReadAt(p, 5*mib); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// An ingest opened and closed again, as a mount does for each object that it looks into.
func BenchmarkIngest(b *testing.B) {
	s := newStore(b)
	data := randomBytes(42, 4*mib)
	e := expect(data)
	for b.Loop() {
		g, err := s.Ingest(e)
		if err != nil {
			b.Fatal(err)
		}
		g.Close()
	}
}

// A small blob, from nothing to committed.
func BenchmarkSmall(b *testing.B) {
	s := newStore(b)
	data := randomBytes(43, 4000)
	e := expect(data)
	for b.Loop() {
		g, err := s.Ingest(e)
		if err != nil {
			b.Fatal(err)
		}
		fill(b, g, data)
		if err := finish(g); err != nil {
			b.Fatal(err)
		}
		g.Close()
		if err := s.Delete(e.Digest); err != nil {
			b.Fatal(err)
		}
	}
}
