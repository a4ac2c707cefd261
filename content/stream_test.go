package content_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"distfs/content"
)

// makeStream begins the stream key with b at off.
func makeStream(tb testing.TB, s *content.Store, key digest.Digest, b []byte, off int64) *content.Stream {
	tb.Helper()
	st, err := s.NewStream(key)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := st.WriteAt(b, off); err != nil {
		tb.Fatal(err)
	}
	return st
}

func wantNoStream(tb testing.TB, s *content.Store, key digest.Digest) {
	tb.Helper()
	if _, err := s.Stream(key); !errors.Is(err, iofs.ErrNotExist) {
		tb.Errorf("Stream(%s) = %v, want fs.ErrNotExist", key, err)
	}
}

// wantStream wants the stream to have b at off.
func wantStream(tb testing.TB, s *content.Store, key digest.Digest, b []byte, off int64) {
	tb.Helper()
	st, err := s.Stream(key)
	if err != nil {
		tb.Fatal(err)
	}
	defer st.Close()
	got := make([]byte, len(b))
	if _, err := st.ReadAt(got, off); err != nil || string(got) != string(b) {
		tb.Errorf("ReadAt(%d) = %v, or other bytes than were kept", off, err)
	}
}

// TestStream sees a stream once it is whole, of which there is one maker at a time.
func TestStream(t *testing.T) {
	s := newStore(t)
	other, err := content.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	key, b := digest.FromString("key"), randomBytes(1, 100_000)
	dir := filepath.Join(s.Dir(), "cache/streams")
	for range 2 { // who gives up leaves nothing
		st := makeStream(t, s, key, b, mib)
		wantNoStream(t, other, key)
		for _, s := range []*content.Store{s, other} {
			if _, err := s.NewStream(key); !errors.Is(err, iofs.ErrExist) {
				t.Errorf("NewStream of what is being made = %v, want fs.ErrExist", err)
			}
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		wantNoStream(t, s, key)
		if names, err := filepath.Glob(filepath.Join(dir, "*/*/*")); err != nil || len(names) > 0 {
			t.Errorf("left over: %v, %v", names, err)
		}
	}
	st := makeStream(t, s, key, b, mib)
	if err := st.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*content.Store{s, other} {
		wantStream(t, s, key, b, mib)
		if _, err := s.NewStream(key); !errors.Is(err, iofs.ErrExist) {
			t.Errorf("NewStream of what is whole = %v, want fs.ErrExist", err)
		}
	}
	wantNoStream(t, s, digest.FromString("another"))
}

// TestStreamOfTheDead begins anew where who made a stream has died: what that left is in
// no boot whole.
func TestStreamOfTheDead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, dir, bootA)
	key, b := digest.FromString("key"), randomBytes(1, 100_000)
	st := makeStream(t, s, key, b, 0)
	if err := st.Commit(); err != nil {
		t.Fatal(err)
	}
	st.Close()
	names, err := filepath.Glob(filepath.Join(dir, "cache/streams/*/*/*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v, want one", names, err)
	}
	if err := os.Chmod(names[0], 0o200); err != nil { // as it is until Commit
		t.Fatal(err)
	}
	wantNoStream(t, s, key)
	st = makeStream(t, s, key, b[:10], 0)
	if err := st.Commit(); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if fi, err := os.Stat(names[0]); err != nil || fi.Size() != 10 {
		t.Errorf("it has %d bytes, %v, want the 10 that were written last", fi.Size(), err)
	}
	s.Close()

	s = openBoot(t, dir, bootB)
	defer s.Close()
	wantNoStream(t, s, key)
	if names, err := filepath.Glob(filepath.Join(dir, "cache/streams/*")); err != nil || len(names) > 0 {
		t.Errorf("of an earlier boot there is %v, %v", names, err)
	}
}

// TestEvictStream evicts streams as all that is derived, but none that is open.
func TestEvictStream(t *testing.T) {
	s := newStore(t)
	blob := randomBytes(1, 100_000)
	plant(t, s, blob, time.Hour)
	key := digest.FromString("key")
	st := makeStream(t, s, key, randomBytes(2, 100_000), 0)
	defer st.Close()
	if err := st.Commit(); err != nil {
		t.Fatal(err)
	}
	if went := evict(t, s, content.EvictOptions{Free: 1}); len(went) != 1 || went[0].Derived {
		t.Errorf("while the stream is open %v went, want the blob", went)
	}
	st.Close()
	plant(t, s, blob, time.Hour)
	if went := evict(t, s, content.EvictOptions{Free: 1}); len(went) != 1 || !went[0].Derived || went[0].Digest != key {
		t.Errorf("%v went, want the stream", went)
	}
	wantNoStream(t, s, key)
}
