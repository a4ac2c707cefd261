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
	"fill":     fillChild,
	"commit":   commitChild,
	"keep":     keepChild,
	"indexing": indexingChild,
	"hold":     holdChild,
	"cut":      cutChild,
	"use":      useChild,
	"evict":    evictChild,
	"quota":    quotaChild,
	"image":    imageChild,
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

func open(tb testing.TB, dir string) *content.Store {
	tb.Helper()
	s, err := content.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func newStore(tb testing.TB) *content.Store {
	tb.Helper()
	return open(tb, filepath.Join(tb.TempDir(), "store"))
}

// expect returns what a registry would say of b.
func expect(b []byte) content.Expect {
	return content.Expect{Ref: "example.com/a:latest", Digest: digest.FromBytes(b), Origin: "example.com", Total: int64(len(b))}
}

func ingest(tb testing.TB, s *content.Store, e content.Expect) *content.Ingest {
	tb.Helper()
	g, err := s.Ingest(e)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { g.Close() })
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

func fill(tb testing.TB, g *content.Ingest, b []byte, chunks ...int64) {
	tb.Helper()
	if chunks == nil {
		for i := range g.Chunks() {
			chunks = append(chunks, i)
		}
	}
	for _, i := range chunks {
		if err := put(g, b, i); err != nil {
			tb.Fatalf("chunk %d: %v", i, err)
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
func wantBlob(tb testing.TB, s *content.Store, b []byte) {
	tb.Helper()
	dgst := digest.FromBytes(b)
	path := filepath.Join(s.Dir(), "blobs", "sha256", dgst.Encoded())
	got, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		tb.Errorf("blob %s has other bytes", dgst)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o444 {
		tb.Errorf("Stat(%s) = %v, %v, want mode 0444", path, fi.Mode(), err)
	}
	wantEmpty(tb, filepath.Join(s.Dir(), "ingest"))
}

func wantEmpty(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	if len(entries) > 0 {
		tb.Errorf("%s holds %v, want nothing", dir, entries)
	}
}

func wantNoBlob(tb testing.TB, s *content.Store, dgst digest.Digest) {
	tb.Helper()
	if _, err := s.Stat(dgst); !errors.Is(err, iofs.ErrNotExist) {
		tb.Errorf("Stat(%s) = %v, want fs.ErrNotExist", dgst, err)
	}
}
