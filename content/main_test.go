package content_test

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

// children are what the test binary does instead of testing, started again by a test that needs another process.
var children = map[string]func(args []string) error{
	"fill":   fillChild,
	"commit": commitChild,
	"hold":   holdChild,
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("DISTFS_TEST_CHILD")]; child != nil {
		if err := child(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const mib = content.ChunkSize

// randomBytes returns n bytes that depend on seed alone.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(b)
	return b
}

func open(t testing.TB, dir string) *content.Store {
	t.Helper()
	s, err := content.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newStore(t testing.TB) *content.Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "store"))
}

// expect returns what a registry would say of b.
func expect(b []byte) content.Expect {
	return content.Expect{Ref: "example.com/a:latest", Digest: digest.FromBytes(b), Origin: "example.com", Total: int64(len(b))}
}

func ingest(t testing.TB, s *content.Store, e content.Expect) *content.Ingest {
	t.Helper()
	g, err := s.Ingest(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// put claims and writes chunk i of b.
func put(g *content.Ingest, b []byte, i int64) error {
	n, err := g.Claim(i, 1)
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("the chunk can't be claimed")
	}
	defer g.Release(i, 1)
	if _, err := g.WriteAt(b[i*mib:min((i+1)*mib, int64(len(b)))], i*mib); err != nil {
		return err
	}
	return g.Done(i, 1)
}

func fill(t testing.TB, g *content.Ingest, b []byte, chunks ...int64) {
	t.Helper()
	if chunks == nil {
		for i := range g.Chunks() {
			chunks = append(chunks, i)
		}
	}
	for _, i := range chunks {
		if err := put(g, b, i); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
	}
}

// finish verifies and commits g, which has all chunks.
func finish(g *content.Ingest) error {
	if ok, err := g.TryOwn(); err != nil || !ok {
		return errors.Join(err, errors.New("not to be owned"))
	}
	if err := g.Verify(); err != nil {
		return err
	}
	_, err := g.Commit()
	return err
}

func chunksOf(g *content.Ingest) (have []int64) {
	for i := range g.Chunks() {
		if g.Has(i, 1) {
			have = append(have, i)
		}
	}
	return have
}

// wantBlob checks that s has b as a blob, as it should be, and no ingest of it.
func wantBlob(t testing.TB, s *content.Store, b []byte) {
	t.Helper()
	dgst := digest.FromBytes(b)
	path := filepath.Join(s.Dir(), "blobs", "sha256", dgst.Encoded())
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Errorf("blob %s has other bytes", dgst)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o444 {
		t.Errorf("Stat(%s) = %v, %v, want mode 0444", path, fi.Mode(), err)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

func wantEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("%s holds %v, want nothing", dir, entries)
	}
}

func wantNoBlob(t testing.TB, s *content.Store, dgst digest.Digest) {
	t.Helper()
	if _, err := s.Stat(dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Stat(%s) = %v, want fs.ErrNotExist", dgst, err)
	}
}
