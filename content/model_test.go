package content_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"distfs/content"

	"pgregory.net/rapid"
)

// A model of an ingest: who has claimed which chunk, and which chunks are there.
type model struct {
	there   []bool
	claimed []int // index of the Ingest, or -1
}

func (m *model) claimable(first, n int64) (k int64) {
	for i := first; i >= 0 && i < first+n && i < int64(len(m.there)); i++ {
		if m.there[i] || m.claimed[i] >= 0 {
			break
		}
		k++
	}
	return k
}

func (m *model) missing(first, n int64) (at, count int64) {
	end := min(first+n, int64(len(m.there)))
	for at = first; at < end && m.there[at]; at++ {
	}
	for at+count < end && !m.there[at+count] {
		count++
	}
	return at, count
}

// Three Ingests of one blob, opened and closed at random, against the model.
func TestModel(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s, err := content.Open(filepath.Join(root, fmt.Sprint(runs)))
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(s.Dir())
		total := rapid.Int64Range(0, 40*mib).Draw(t, "total")
		e := content.Expect{Ref: "x", Digest: expect(nil).Digest, Origin: "o", Total: total}
		chunks := (total + mib - 1) / mib
		m := &model{there: make([]bool, chunks), claimed: nobody(chunks)}
		var gs [3]*content.Ingest
		ingest := func(k int) *content.Ingest {
			if gs[k] == nil {
				if gs[k], err = s.Ingest(e); err != nil {
					t.Fatal(err)
				}
			}
			return gs[k]
		}
		defer func() {
			for _, g := range gs {
				if g != nil {
					g.Close()
				}
			}
		}()
		draw := func(t *rapid.T) (k int, first, n int64) {
			return rapid.IntRange(0, 2).Draw(t, "ingest"), rapid.Int64Range(0, chunks).Draw(t, "first"), rapid.Int64Range(0, 12).Draw(t, "n")
		}
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				k, first, n := draw(t)
				got, err := ingest(k).Claim(first, n)
				if want := m.claimable(first, n); got != want || err != nil {
					t.Fatalf("%d.Claim(%d, %d) = %d, %v, want %d", k, first, n, got, err, want)
				}
				for i := first; i < first+got; i++ {
					m.claimed[i] = k
				}
			},
			"release": func(t *rapid.T) {
				k, first, n := draw(t)
				ingest(k).Release(first, n)
				for i := first; i < min(first+n, chunks); i++ {
					if m.claimed[i] == k {
						m.claimed[i] = -1
					}
				}
			},
			"done": func(t *rapid.T) {
				k, first, n := draw(t)
				ok := first+n <= chunks
				for i := first; ok && i < first+n; i++ {
					ok = m.claimed[i] == k && !m.there[i]
				}
				ok = ok || n == 0
				if err := ingest(k).Done(first, n); (err == nil) != ok {
					t.Fatalf("%d.Done(%d, %d) = %v, want ok %v", k, first, n, err, ok)
				}
				for i := first; ok && i < first+n; i++ {
					m.there[i] = true
				}
			},
			"checkpoint": func(t *rapid.T) {
				k, _, _ := draw(t)
				if err := ingest(k).Checkpoint(); err != nil {
					t.Fatal(err)
				}
			},
			"close": func(t *rapid.T) {
				k, _, _ := draw(t)
				if err := ingest(k).Close(); err != nil {
					t.Fatal(err)
				}
				gs[k] = nil
				for i, who := range m.claimed {
					if who == k {
						m.claimed[i] = -1
					}
				}
			},
			"": func(t *rapid.T) {
				k, first, n := draw(t)
				g := ingest(k)
				if first < chunks && n > 0 {
					at, count := g.Missing(first, n)
					if wantAt, want := m.missing(first, n); at != wantAt || count != want {
						t.Fatalf("%d.Missing(%d, %d) = %d, %d, want %d, %d", k, first, n, at, count, wantAt, want)
					}
					_, absent := m.missing(first, n)
					if got, want := g.Has(first, n), absent == 0 && first+n <= chunks; got != want {
						t.Fatalf("%d.Has(%d, %d) = %v, want %v", k, first, n, got, want)
					}
				}
				for i, there := range m.there {
					if g.Has(int64(i), 1) != there {
						t.Fatalf("%d.Has(%d) = %v, want %v", k, i, !there, there)
					}
				}
			},
		})
	})
}

// nobody has claimed any of n chunks.
func nobody(n int64) []int {
	who := make([]int, n)
	for i := range who {
		who[i] = -1
	}
	return who
}

// Bytes written at random places within claims are read back as they were, and make the blob.
func TestModelBytes(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s, err := content.Open(filepath.Join(root, fmt.Sprint(runs)))
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(s.Dir())
		b := randomBytes(rapid.Uint64Range(0, 1<<16-1).Draw(t, "seed"), rapid.IntRange(1, 5*mib).Draw(t, "total"))
		g, err := s.Ingest(expect(b))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { g.Close() }()
		for _, i := range rapid.Permutation(indexes(g.Chunks())).Draw(t, "order") {
			if n, err := g.Claim(i, 1); n != 1 || err != nil {
				t.Fatalf("Claim(%d) = %d, %v", i, n, err)
			}
			p := b[i*mib : min((i+1)*mib, int64(len(b)))]
			for len(p) > 0 {
				n := rapid.IntRange(1, len(p)).Draw(t, "n")
				off := i*mib + min(mib, int64(len(b))-i*mib) - int64(len(p))
				if _, err := g.WriteAt(p[:n], off); err != nil {
					t.Fatal(err)
				}
				p = p[n:]
			}
			if err := g.Done(i, 1); err != nil {
				t.Fatal(err)
			}
			g.Release(i, 1)
			if rapid.Bool().Draw(t, "reopen") {
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
				if g, err = s.Ingest(expect(b)); err != nil {
					t.Fatal(err)
				}
			}
		}
		off := rapid.IntRange(0, len(b)).Draw(t, "off")
		p := make([]byte, rapid.IntRange(0, len(b)-off).Draw(t, "len"))
		if n, err := g.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, b[off:off+n]) {
			t.Fatalf("ReadAt(%d bytes at %d) = %d, %v", len(p), off, n, err)
		}
		if err := finish(g); err != nil {
			t.Fatal(err)
		}
	})
}

func indexes(n int64) (is []int64) {
	for i := range n {
		is = append(is, i)
	}
	return is
}
