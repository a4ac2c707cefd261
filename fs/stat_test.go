package fs_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"distfs/fs"
)

// info stats a path below the mount, for which nobody may be asked.
func (m *mount) info(t *testing.T, src *source, path string) fs.Info {
	t.Helper()
	src.requests()
	info, err := m.Stat(path)
	if err != nil {
		t.Errorf("Stat(%s): %v", path, err)
	}
	if asked := src.requests(); len(asked) > 0 {
		t.Errorf("Stat(%s) asked %q", path, asked)
	}
	return info
}

func TestStat(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	unknown := src.add(repo, "", content(7, 100))
	partial := src.add(repo, "", content(8, 6<<20)).gate()
	m := mountSource(t, src, &fs.Options{Platform: amd64, TagTTL: time.Hour})

	for path, kind := range map[string]string{
		"": "root", ".": "root", "reg.example": "host", repo: "repository", repo + "/..": "repository",
		repo + "/deeper": "repository", unknown.path(): "object", repo + ":v1": "tag", im.dir: "image",
		im.dir + "/layers": "directory", im.dir + "/manifest.json": "link",
	} {
		if got := m.info(t, src, path); got.Kind != kind {
			t.Errorf("Stat(%q) is of kind %q, want %q", path, got.Kind, kind)
		}
	}
	if got := m.info(t, src, unknown.path()); got.State != "absent" || got.Size != -1 || got.Digest != unknown.desc.Digest || got.Locator != repo {
		t.Errorf("of an object that nobody asked for: %+v", got)
	}
	if got := m.info(t, src, repo+":v1"); got.Target != "" || got.Digest != "" || !got.Until.IsZero() || got.Size != -1 {
		t.Errorf("of a tag that was not resolved: %+v", got)
	}
	if _, err := m.Stat(repo + ":v1/manifest.json"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Stat through a tag that was not resolved = %v, want ENETUNREACH", err)
	}
	if _, err := m.Stat(im.dir + "/layers/0.tar.gz"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Stat of a layer of an unknown manifest = %v, want ENETUNREACH", err)
	}
	if asked := src.requests(); len(asked) > 0 {
		t.Errorf("Stat asked %q", asked)
	}

	// What the mount learned, it tells.
	if _, err := m.readlink(repo + ":v1"); err != nil {
		t.Fatal(err)
	}
	got := m.info(t, src, repo+":v1")
	if got.Target != filepath.Base(im.dir) || got.Digest != im.index.desc.Digest || time.Until(got.Until) < 50*time.Minute {
		t.Errorf("of a tag that was resolved: %+v", got)
	}
	target, err := m.readlink(im.dir + "/layers/0.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{im.dir + "/layers/0.tar.gz", repo + ":v1/layers/0.tar.gz"} {
		got = m.info(t, src, path)
		if got.Kind != "link" || got.Target != target || got.Digest != im.layer.desc.Digest || got.MediaType != im.layer.desc.MediaType {
			t.Errorf("of a layer: %+v", got)
		}
	}
	if got = m.info(t, src, im.layer.path()); got.Size != im.layer.desc.Size {
		t.Errorf("of an object that a manifest names: %+v, want its size", got)
	}
	if got = m.info(t, src, im.manifest.path()); got.State != "complete" || got.Committed.IsZero() || got.Local != got.Size {
		t.Errorf("of an object that is here: %+v", got)
	}
	m.stat(m.path(partial.path()))
	partial.release(0, 2)
	partial.edit(func(b *blob) { b.known = true })
	if got = m.info(t, src, partial.path()); got.State != "partial" || got.Local != 2<<20 || got.Size != 6<<20 {
		t.Errorf("of a part: %+v", got)
	}
	for path, want := range map[string]error{
		"Makefile": iofs.ErrNotExist, "..": iofs.ErrInvalid, unknown.path() + "/x": syscall.ENOTDIR,
		strings.Repeat("a", 5000): syscall.ENAMETOOLONG, "h.example/" + strings.Repeat("a", 300): syscall.ENAMETOOLONG,
	} {
		if _, err := m.Stat(path); !errors.Is(err, want) {
			t.Errorf("Stat(%.20q) = %v, want %v", path, err, want)
		}
	}
}

// TestStatType has a repository answer for a layer without knowing its type, as a
// directory of layouts does, and the manifest say it.
func TestStatType(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	im.layer.edit(func(b *blob) { b.known, b.desc.MediaType = true, "application/octet-stream" })
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	for _, want := range []string{"application/octet-stream", ocispec.MediaTypeImageLayerGzip} {
		if got := m.info(t, src, im.layer.path()); got.MediaType != want {
			t.Errorf("a layer is of type %q, want %q", got.MediaType, want)
		}
		if _, err := m.readlink(im.dir + "/layers/0.tar.gz"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLocate(t *testing.T) {
	src := newSource(t)
	m := mountSource(t, src, nil)
	dir := t.TempDir()
	if err := os.Symlink(m.dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	place := m.Place()
	if place.Mountpoint != m.dir {
		t.Errorf("Place() = %+v, want it at %s", place, m.dir)
	}
	t.Chdir(dir)
	for name, want := range map[string]string{
		m.dir: "", m.dir + "/a.example/b:1": "a.example/b:1", dir + "/link/a.example/x/../y": "a.example/x/../y", "link/c.example": "c.example",
	} {
		got, err := fs.Locate(name)
		if err != nil || got.Mountpoint != m.dir || got.Device != place.Device || got.Path != want {
			t.Errorf("Locate(%s) = %+v, %v, want %s", name, got, err, want)
		}
	}
	for _, name := range []string{dir, "/proc", "/", dir + "/link"} {
		if got, err := fs.Locate(name); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Locate(%s) = %+v, %v, want fs.ErrNotExist", name, got, err)
		}
	}
	if os.Getuid() != 0 {
		return // to bind is root's
	}
	sub := t.TempDir()
	m.stat(m.path(repo))
	if err := unix.Mount(m.path("reg.example"), sub, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sub, unix.MNT_DETACH)
	if got, err := fs.Locate(sub + "/app"); err != nil || got.Device != place.Device || got.Path != "reg.example/app" {
		t.Errorf("Locate in a bind mount = %+v, %v", got, err)
	}
}

func TestStats(t *testing.T) {
	src := newSource(t)
	small := src.add(repo, "", content(1, 5000)).complete(t)
	missed := src.add(repo, "", content(2, 5000))
	passed := src.add(repo, "", content(3, 2<<20)).complete(t)
	m := mountSource(t, src, nil)
	for _, b := range []*blob{small, missed, passed} {
		if _, err := call[Range, []byte](m.agent, "Read", Range{Path: m.path(b.path()), N: 100}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(repo+"/"+string(digestOf([]byte("none"))))); err == nil {
		t.Fatal("what is not there is there")
	}
	s := m.Stats()
	if s.Hits != 1 || s.HitBytes != 5000 || s.Misses != 1 {
		t.Errorf("%d hits of %d bytes, %d misses, want one of 5000 and one: %+v", s.Hits, s.HitBytes, s.Misses, s)
	}
	if s.Passed+s.Opened != 3 {
		t.Errorf("%d and %d opens, want three", s.Passed, s.Opened)
	}
	if s.Errors["ENOENT"] == 0 {
		t.Errorf("errors: %v, want ENOENT", s.Errors)
	}
	for _, kind := range []string{"lookup", "getattr", "open", "read"} {
		l := s.Requests[kind]
		if l.Count == 0 || l.Sum <= 0 || len(l.Buckets) != len(fs.LatencyBounds()) || l.Buckets[len(l.Buckets)-1] != l.Count {
			t.Errorf("%s: %+v", kind, l)
		}
	}
}
