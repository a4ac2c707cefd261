package content_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

// keep keeps b as a file in s, which was last used so long ago, and returns its digest.
func keep(tb testing.TB, s *content.Store, b []byte, ago time.Duration) digest.Digest {
	tb.Helper()
	dgst := digest.FromBytes(b)
	if err := s.KeepFile(dgst, b); err != nil {
		tb.Fatal(err)
	}
	usedAgo(tb, filesOf(tb, s, dgst)[0], ago)
	return dgst
}

func usedAgo(tb testing.TB, path string, ago time.Duration) {
	tb.Helper()
	then := time.Now().Add(-ago)
	if err := os.Chtimes(path, then, then); err != nil {
		tb.Fatal(err)
	}
}

// filesOf returns the paths of dgst in cache/files, of whatever boot.
func filesOf(tb testing.TB, s *content.Store, dgst digest.Digest) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Dir(), "cache/files/*", dgst.Algorithm().String(), dgst.Encoded()))
	if err != nil {
		tb.Fatal(err)
	}
	return paths
}

func wantFile(tb testing.TB, s *content.Store, b []byte) {
	tb.Helper()
	f, err := s.File(digest.FromBytes(b))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || string(got) != string(b) {
		tb.Errorf("File has %d bytes, %v, want the %d kept", len(got), err, len(b))
	}
	if fi, err := f.Stat(); err != nil || fi.Mode() != 0o400 {
		tb.Errorf("its mode is %v, %v, want 0400", fi.Mode(), err)
	}
}

func wantNoFile(tb testing.TB, s *content.Store, dgst digest.Digest) {
	tb.Helper()
	if _, err := s.File(dgst); !errors.Is(err, iofs.ErrNotExist) {
		tb.Errorf("File(%s) = %v, want fs.ErrNotExist", dgst, err)
	}
}

func TestKeepFile(t *testing.T) {
	s := newStore(t)
	for _, n := range []int{0, 1, 4096, mib + 7} {
		b := randomBytes(1, n)
		dgst := digest.FromBytes(b)
		wantNoFile(t, s, dgst)
		if _, ok := errors.AsType[*content.MismatchError](s.KeepFile(dgst, append(b, 0))); !ok {
			t.Errorf("KeepFile of other bytes is no mismatch")
		}
		wantNoFile(t, s, dgst)
		for range 2 {
			if err := s.KeepFile(dgst, b); err != nil {
				t.Fatal(err)
			}
			wantFile(t, s, b)
		}
		wantNoBlob(t, s, dgst)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

func TestFileOfAnotherBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, dir, bootA)
	right, wrong, torn := randomBytes(1, 100_000), randomBytes(2, 100_000), randomBytes(3, 100_000)
	for _, b := range [][]byte{right, wrong, torn} {
		keep(t, s, b, time.Hour)
	}
	rewrite(t, filesOf(t, s, digest.FromBytes(wrong))[0], make([]byte, len(wrong)))
	rewrite(t, filesOf(t, s, digest.FromBytes(torn))[0], nil)
	s.Close()

	s = openBoot(t, dir, bootB)
	defer s.Close()
	for range 2 {
		wantFile(t, s, right)
		wantNoFile(t, s, digest.FromBytes(wrong))
		wantNoFile(t, s, digest.FromBytes(torn))
	}
	if paths := filesOf(t, s, digest.FromBytes(right)); len(paths) != 1 || filepath.Base(filepath.Dir(filepath.Dir(paths[0])))[:2] != "04" {
		t.Errorf("it lies at %v, want this boot's directory alone", paths)
	}
	for _, b := range [][]byte{wrong, torn} {
		if paths := filesOf(t, s, digest.FromBytes(b)); len(paths) > 0 {
			t.Errorf("what is wrong lies at %v", paths)
		}
	}
	if got := boots(t, dir); len(got) != 2 {
		t.Errorf("directories of boots: %v", got)
	}
	openBoot(t, dir, bootB).Close() // the one of the other boot is empty
	if got := boots(t, dir); len(got) != 1 {
		t.Errorf("directories of boots after all was moved: %v", got)
	}
}

func boots(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "cache/files"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOldBootsFilesAreSwept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, dir, bootA)
	b := randomBytes(1, 1000)
	usedAgo(t, filepath.Dir(filesOf(t, s, keep(t, s, b, 0))[0]), 29*24*time.Hour)
	s.Close()
	s = openBoot(t, dir, bootB)
	if paths := filesOf(t, s, digest.FromBytes(b)); len(paths) != 1 {
		t.Errorf("what is not so old lies at %v", paths)
	}
	usedAgo(t, filepath.Dir(filesOf(t, s, digest.FromBytes(b))[0]), 31*24*time.Hour)
	s.Close()
	s = openBoot(t, dir, bootB)
	defer s.Close()
	if got := boots(t, dir); len(got) > 0 {
		t.Errorf("what is old lies in %v", got)
	}
	wantNoFile(t, s, digest.FromBytes(b))
}

func derived(b []byte) content.Expect {
	return content.Expect{Ref: "x", Digest: digest.FromBytes(b), Origin: "layer:x", Total: int64(len(b)), Derived: true}
}

// A derived ingest becomes a file, beside whatever becomes a blob; nothing that is kept of blobs keeps it.
func TestDerivedIngest(t *testing.T) {
	s := newStore(t)
	b := randomBytes(5, 3*mib+1)
	other := ingest(t, s, content.Expect{Ref: "y", Digest: derived(b).Digest, Origin: "layer:x", Total: int64(len(b))})
	g := ingest(t, s, derived(b))
	fill(t, g, b)
	if g.Due() || other.Has(0, 1) {
		t.Errorf("Due = %v, and a fetched one of the same origin has a chunk of it: %v", g.Due(), other.Has(0, 1))
	}
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	wantFile(t, s, b)
	wantNoBlob(t, s, derived(b).Digest)
	if other.State() != content.Filling {
		t.Errorf("the fetched one is %d", other.State())
	}
	if _, err := s.Ingest(derived(b)); !errors.Is(err, iofs.ErrExist) {
		t.Errorf("Ingest of what is there = %v, want fs.ErrExist", err)
	}
	open(t, s.Dir()) // and sweeps
	if other.State() != content.Filling {
		t.Errorf("the fetched one is %d after a sweep", other.State())
	}
	fill(t, other, b)
	if err := finish(other); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}

func TestDerivedIngestEndsWithTheBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, dir, bootA)
	b := randomBytes(5, 3*mib)
	g := ingest(t, s, derived(b))
	fill(t, g, b, 0, 1)
	if err := errors.Join(g.Checkpoint(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(derived(b).Digest); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.Kept(); err != nil || len(kept) > 0 {
		t.Errorf("Kept = %v, %v: what is derived is kept by nothing", kept, err)
	}
	g = ingest(t, s, derived(b))
	if got := chunksOf(g); !slices.Equal(got, []int64{0, 1}) {
		t.Errorf("in the same boot it has %v", got)
	}
	openBoot(t, dir, bootA).Close()
	if g.State() != content.Filling {
		t.Errorf("a sweep of the same boot made it %d", g.State())
	}
	g.Close()
	s.Close()
	s = openBoot(t, dir, bootB)
	defer s.Close()
	if all, err := s.Ingests(); err != nil || len(all) > 0 {
		t.Errorf("after another boot Ingests = %v, %v, want none", all, err)
	}
}

func writing(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// What is derived goes first, though it was used last; files before an index of the same minute. Hold alone spares it.
func TestEvictDerivedFirst(t *testing.T) {
	s := newStore(t)
	blob := plant(t, s, randomBytes(1, 8<<10), 100*time.Hour)
	young := keep(t, s, randomBytes(2, 8<<10), 0)
	old := keep(t, s, randomBytes(3, 8<<10), 50*time.Hour)
	held := keep(t, s, randomBytes(4, 8<<10), 60*time.Hour)
	layer := digest.FromString("layer")
	if err := s.KeepLayerIndex(layer, writing(randomBytes(5, 8<<10))); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(s.Dir(), "cache/index", "sha256-"+layer.Encoded()+".v1")
	same := time.Now().Truncate(time.Minute).Add(-10 * time.Hour)
	file := keep(t, s, randomBytes(6, 8<<10), 0)
	for path, at := range map[string]time.Time{index: same, filesOf(t, s, file)[0]: same.Add(59 * time.Second)} {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	part := randomBytes(7, 5*mib)
	g := ingest(t, s, derived(part))
	fill(t, g, part, 0)
	usedAgo(t, filepath.Join(g.IngestDir(), "data"), 20*time.Hour)
	g.Close()
	for _, dgst := range []digest.Digest{young, old, layer} {
		if err := s.Pin(dgst); err != nil {
			t.Fatal(err)
		}
	}
	release := hold(t, s, held)
	if kept, err := s.KeptSize(); err != nil || kept > 0 {
		t.Errorf("KeptSize = %d, %v: what is derived is kept by nothing", kept, err)
	}
	before := sizeOnDisk(t, s)
	went := evict(t, s, content.EvictOptions{MaxSize: 16 << 10})
	if want := []digest.Digest{old, derived(part).Digest, file, layer, young}; !slices.Equal(digestsOf(went), want) {
		t.Errorf("Evict evicted %v, want %v", digestsOf(went), want)
	}
	for _, e := range went {
		if !e.Derived || e.Partial != (e.Digest == derived(part).Digest) || e.Bad {
			t.Errorf("Evict told %+v", e)
		}
	}
	if after := sizeOnDisk(t, s); after != 16<<10 || before < after+mib {
		t.Errorf("the store had %d bytes and has %d, want 16 KiB", before, after)
	}
	release()
	if went := evict(t, s, content.EvictOptions{MaxSize: -1}); !slices.Equal(digestsOf(went), []digest.Digest{held, blob}) {
		t.Errorf("then Evict evicted %v, want the file that was held, and the blob", digestsOf(went))
	}
}

// keepChild keeps files in the store dir, and says so for each, until it is killed.
func keepChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		b := randomBytes(uint64(i), 200_000)
		if err := s.KeepFile(digest.FromBytes(b), b); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// Who is killed while he keeps files leaves none that is wrong, and nothing else.
func TestKilledKeeper(t *testing.T) {
	s := newStore(t)
	for n := range 8 {
		cmd := child(t, "keep", s.Dir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range 10 * n {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}
	paths, err := filepath.Glob(filepath.Join(s.Dir(), "cache/files/*/*/*"))
	if err != nil || len(paths) < 70 {
		t.Fatalf("%d files, %v, want at least the 70 that were told of", len(paths), err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if got := digest.FromBytes(b); err != nil || got.Encoded() != filepath.Base(path) {
			t.Errorf("%s has %d bytes of digest %s, %v", path, len(b), got, err)
		}
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

func BenchmarkKeepFile(b *testing.B) {
	s := newStore(b)
	p := randomBytes(1, 16<<10)
	for i := 0; b.Loop(); i++ {
		p[0], p[1], p[2] = byte(i), byte(i>>8), byte(i>>16)
		if err := s.KeepFile(digest.FromBytes(p), p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFile(b *testing.B) {
	s := newStore(b)
	dgst := keep(b, s, randomBytes(1, 16<<10), 0)
	absent := digest.FromString("absent")
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			f, err := s.File(dgst)
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
	b.Run("absent", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.File(absent); err == nil {
				b.Fatal("it is there")
			}
		}
	})
}

// TestHalfWrittenFile is what a killed process leaves: it is none, and gives way.
func TestHalfWrittenFile(t *testing.T) {
	s := open(t, t.TempDir()+"/store")
	b := []byte("all of it")
	path := filesOf(t, s, keep(t, s, b, 0))[0]
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b[:3], 0o200)); err != nil {
		t.Fatal(err)
	}
	wantNoFile(t, s, digest.FromBytes(b))
	keep(t, s, b, 0)
	wantFile(t, s, b)
}
