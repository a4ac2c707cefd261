package content_test

import (
	"encoding/json"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestOpenMakesALayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("Stat(%s) = %v, %v, want mode 0700", dir, fi.Mode(), err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if want := `{"imageLayoutVersion":"1.0.0"}`; err != nil || string(b) != want {
		t.Errorf("oci-layout is %s, %v, want %s", b, err, want)
	}
	b, err = os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil || index.SchemaVersion != 2 || index.Manifests == nil {
		t.Errorf("index.json is %s, %v", b, err)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))

	// What others wrote into index.json stays.
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"x":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if b, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || string(b) != `{"x":1}` {
		t.Errorf("index.json is %s, %v after another Open", b, err)
	}
}

func TestOpenTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			s, err := content.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
	wantEmpty(t, filepath.Join(dir, "ingest"))
}

func TestOpenThroughSymlink(t *testing.T) {
	real := filepath.Join(t.TempDir(), "real")
	open(t, real)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(real)
	if err != nil {
		t.Fatal(err)
	}
	if s := open(t, link); s.Dir() != want {
		t.Errorf("Dir() = %s, want %s", s.Dir(), want)
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name string
		make func(dir string) error // dir is there and 0700
		want string
		is   error
	}{
		{"others may enter", func(dir string) error { return opened(dir, 0o755) }, "chmod 0700 ", iofs.ErrPermission},
		{"group may write", func(dir string) error { return opened(dir, 0o720) }, "mode 0720", iofs.ErrPermission},
		{"not a store, and open", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o600), os.Chmod(dir, 0o755))
		}, `"passwd"`, nil},
		{"another user's", func(dir string) error { return os.Chown(dir, 12345, -1) }, "uid 12345", iofs.ErrPermission},
		{"not a store", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600)
		}, `"thesis.tex"`, nil},
		{"another version", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "distfs-store"), []byte("distfs store 2\n"), 0o600)
		}, `"distfs store 2"`, nil},
		{"another layout", func(dir string) error {
			s, err := content.Open(dir)
			if err != nil {
				return err
			}
			s.Close()
			return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"9.0.0"}`), 0o600)
		}, `"9.0.0"`, nil},
		{"a file", func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
		}, "not a directory", nil},
		{"a symlink to another user's", func(dir string) error {
			return errors.Join(os.Remove(dir), os.Mkdir(dir+".real", 0o700), os.Chown(dir+".real", 12345, -1), os.Symlink(dir+".real", dir))
		}, "uid 12345", iofs.ErrPermission},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.make(dir); err != nil {
				if errors.Is(err, iofs.ErrPermission) {
					mustRun(t, "chown needs root")
				}
				t.Fatal(err)
			}
			before := list(t, dir)
			_, err := content.Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("Open = %v, want an error with %q and %s", err, c.want, dir)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Open = %v, want %v", err, c.is)
			}
			if after := list(t, dir); !slices.Equal(before, after) {
				t.Errorf("Open has made of %q %q", before, after)
			}
		})
	}
}

// mustRun skips a test that can't run here, except in CI.
func mustRun(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

func list(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ iofs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestOpenSweeps(t *testing.T) {
	s := newStore(t)
	b := randomBytes(1, 3*mib)
	g := ingest(t, s, expect(b))
	fill(t, g, b)
	other := expect(b)
	other.Origin = "mirror.example.com"
	stale := ingest(t, s, other)
	fill(t, stale, b, 1)
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(s.Dir(), "ingest", name) }
	for _, name := range []string{".new-1", ".new-2", ".gone-3"} {
		if err := os.MkdirAll(in(name+"/x/y"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(in(".new-1"), old, old); err != nil {
		t.Fatal(err)
	}
	open(t, s.Dir())
	entries, err := os.ReadDir(in(""))
	if err != nil || len(entries) != 1 || entries[0].Name() != ".new-2" {
		t.Errorf("ingest holds %v, %v after Open, want .new-2", entries, err)
	}
	if st := stale.State(); st != content.Discarded {
		t.Errorf("State of an ingest whose blob is there = %d after Open, want Discarded", st)
	}
}

func TestClosedStore(t *testing.T) {
	s := newStore(t)
	b := randomBytes(1, 10)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, blobErr := s.Blob(expect(b).Digest)
	_, statErr := s.Stat(expect(b).Digest)
	_, ingestErr := s.Ingest(expect(b))
	_, listErr := s.Blobs()
	_, reposErr := s.Repos("")
	for i, err := range []error{blobErr, statErr, ingestErr, listErr, reposErr, s.Delete(expect(b).Digest), s.Abort(expect(b))} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("call %d of a closed store = %v, want os.ErrClosed", i, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	s := newStore(t)
	var want []string
	for i := range 5 {
		b := randomBytes(uint64(i), 1000*i)
		g := ingest(t, s, expect(b))
		fill(t, g, b)
		before := time.Now().Add(-time.Second)
		if err := finish(g); err != nil {
			t.Fatal(err)
		}
		info, err := s.Stat(expect(b).Digest)
		if err != nil || info.Size != int64(len(b)) || info.Committed.Before(before) {
			t.Errorf("Stat = %v, %v", info, err)
		}
		want = append(want, string(expect(b).Digest))
	}
	slices.Sort(want)
	for _, foreign := range []string{"blobs/sha256/xyz", "blobs/README"} {
		if err := os.WriteFile(filepath.Join(s.Dir(), foreign), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	infos, err := s.Blobs()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range infos {
		got = append(got, string(info.Digest))
	}
	if !slices.Equal(got, want) {
		t.Errorf("Blobs() = %v, want %v", got, want)
	}

	dgst := infos[0].Digest
	f, err := s.Blob(dgst)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Delete(dgst); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Delete again = %v, want fs.ErrNotExist", err)
	}
	if _, err := s.Blob(dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Blob after Delete = %v, want fs.ErrNotExist", err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != infos[0].Size {
		t.Errorf("a deleted blob that is open: %v, %v", fi, err)
	}
}

func TestBadDigests(t *testing.T) {
	s := newStore(t)
	for _, dgst := range []string{
		"", "sha256", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../../../etc/passwd",
		"sha256:" + strings.Repeat("A", 64), "../x:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("a", 65), strings.Repeat("x", 1<<20),
	} {
		_, blobErr := s.Blob(digest.Digest(dgst))
		_, statErr := s.Stat(digest.Digest(dgst))
		for _, err := range []error{blobErr, statErr, s.Delete(digest.Digest(dgst))} {
			if err == nil || len(err.Error()) > 1000 {
				t.Errorf("digest %.100q: error %.200v", dgst, err)
			}
		}
		if dgst == "" {
			continue
		}
		if _, err := s.Ingest(content.Expect{Ref: "x", Digest: digest.Digest(dgst), Origin: "o", Total: 1}); err == nil {
			t.Errorf("Ingest(%.100q) succeeded", dgst)
		}
	}
}

// opened makes a store in dir and lets others in.
func opened(dir string, mode os.FileMode) error {
	s, err := content.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(s.Close(), os.Chmod(dir, mode))
}

// TestEmptyDirectoryBecomesPrivate: what mkdir made is as good as none.
func TestEmptyDirectoryBecomesPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := content.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", fi.Mode(), err)
	}
}
