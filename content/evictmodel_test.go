package content_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// A storeModel is what a store with blobs of 4 KiB should hold, and why.
type storeModel struct {
	s       *content.Store
	all     []digest.Digest
	clock   int                   // of uses
	used    map[digest.Digest]int // the blobs that are there, and when each was last used
	pinned  map[digest.Digest]bool
	indexed map[digest.Digest]bool
	held    map[digest.Digest][]func()
}

const modelBlock = 4 << 10

// use makes now, a second after the use before, the last use of dgst.
func (m *storeModel) use(t *rapid.T, dgst digest.Digest) {
	m.clock++
	m.used[dgst] = m.clock
	at := time.Unix(1_000_000_000+int64(m.clock), 0)
	if err := os.Chtimes(blobPath(m.s, dgst), at, at); err != nil {
		t.Fatal(err)
	}
}

func (m *storeModel) kept(dgst digest.Digest) bool {
	return m.pinned[dgst] || m.indexed[dgst] || len(m.held[dgst]) > 0
}

// wanted returns what is to go down to high bytes, in order.
func (m *storeModel) wanted(high int64) (want []digest.Digest) {
	var free []digest.Digest
	for dgst := range m.used {
		if !m.kept(dgst) {
			free = append(free, dgst)
		}
	}
	slices.SortFunc(free, func(a, b digest.Digest) int { return m.used[a] - m.used[b] })
	for size := int64(len(m.used)) * modelBlock; size > high && len(free) > 0; size -= modelBlock {
		want, free = append(want, free[0]), free[1:]
	}
	return want
}

func (m *storeModel) evict(t *rapid.T, opts content.EvictOptions, high int64) {
	want := m.wanted(high)
	if got := digestsOf(evict2(t, m.s, opts)); !slices.Equal(got, want) {
		t.Fatalf("Evict(%+v) evicted %v, want %v", opts, got, want)
	}
	if !opts.DryRun {
		for _, dgst := range want {
			delete(m.used, dgst)
		}
	}
}

func evict2(t *rapid.T, s *content.Store, opts content.EvictOptions) (went []content.Evicted) {
	opts.Each = func(e content.Evicted) error { went = append(went, e); return nil }
	if _, err := s.Evict(opts); err != nil {
		t.Fatal(err)
	}
	return went
}

// Whatever is done to a store, Evict evicts the least recently used of what nobody keeps, no more and no less.
func TestEvictModel(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s, err := content.Open(filepath.Join(dir, digest.FromString(time.Now().String()).Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(s.Dir())
		defer s.Close()
		m := &storeModel{
			s: s, used: make(map[digest.Digest]int), held: make(map[digest.Digest][]func()),
			pinned: make(map[digest.Digest]bool), indexed: make(map[digest.Digest]bool),
		}
		for i := range 12 {
			m.all = append(m.all, digest.FromBytes(randomBytes(uint64(i), modelBlock)))
		}
		dgst := rapid.SampledFrom(m.all)
		sizes := rapid.Int64Range(0, 12*modelBlock)
		for range 100 {
			m.step(t, rapid.IntRange(0, 9).Draw(t, "what"), dgst.Draw(t, "digest"), sizes)
			m.check(t)
		}
	})
	if runs < 100 {
		t.Errorf("%d runs of 100 steps, want 10,000 steps", runs)
	}
}

func (m *storeModel) step(t *rapid.T, what int, dgst digest.Digest, sizes *rapid.Generator[int64]) {
	_, there := m.used[dgst]
	switch {
	case what <= 2: // it comes, or is opened
		if !there {
			b := randomBytes(uint64(slices.Index(m.all, dgst)), modelBlock)
			if err := os.WriteFile(blobPath(m.s, dgst), b, 0o444); err != nil {
				t.Fatal(err)
			}
		}
		m.use(t, dgst)
	case what == 3:
		release, err := m.s.Hold(dgst)
		if err != nil {
			t.Fatal(err)
		}
		m.held[dgst] = append(m.held[dgst], release)
	case what == 4 && len(m.held[dgst]) > 0:
		m.held[dgst][0]()
		m.held[dgst] = m.held[dgst][1:]
	case what == 5:
		do := m.s.Pin
		if m.pinned[dgst] {
			do = m.s.Unpin
		}
		if err := do(dgst); err != nil {
			t.Fatal(err)
		}
		m.pinned[dgst] = !m.pinned[dgst]
	case what == 6 && there:
		m.indexed[dgst] = !m.indexed[dgst]
		m.writeIndex(t)
	case what == 7 && there:
		if err := m.s.Delete(dgst); err != nil {
			t.Fatal(err)
		}
		delete(m.used, dgst)
	case what == 8:
		size := sizes.Draw(t, "size")
		m.evict(t, content.EvictOptions{MaxSize: max(size, 1), DryRun: size%2 == 0}, max(size, 1))
	case what == 9:
		free := max(sizes.Draw(t, "free")/4, 1)
		m.evict(t, content.EvictOptions{Free: free}, max(int64(len(m.used))*modelBlock-free, 0))
	}
}

func (m *storeModel) writeIndex(t *rapid.T) {
	var named []digest.Digest
	for dgst, is := range m.indexed {
		if is {
			named = append(named, dgst)
		}
	}
	path := filepath.Join(m.s.Dir(), "index.json")
	if err := errors.Join(os.WriteFile(path+".new", indexOf(named...), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func (m *storeModel) check(t *rapid.T) {
	for _, dgst := range m.all {
		_, err := m.s.Stat(dgst)
		if _, want := m.used[dgst]; want != (err == nil) || err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.Fatalf("Stat(%s) = %v, want it there: %v", dgst, err, want)
		}
	}
}
