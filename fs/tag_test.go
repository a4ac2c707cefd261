package fs_test

import (
	"errors"
	iofs "io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"golang.org/x/sys/unix"

	"distfs/fs"
)

// readlink has the agent read the link of a tag.
func (m *mount) readlink(name string) (string, error) {
	return call[string, string](m.agent, "Readlink", m.path(name))
}

func (s *source) moveTag(ref, to string) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(to), Size: 7}
	s.set(func(s *source) { s.tags[ref] = desc })
}

func TestTag(t *testing.T) {
	src := newSource(t)
	name := repo + ":v1"
	want := func(m *mount, to string) {
		t.Helper()
		got, err := m.readlink(name)
		if err != nil || got != "app@"+string(digest.FromString(to)) {
			t.Errorf("the tag leads to %q, %v, want that of %q", got, err, to)
		}
		if st := m.stat(m.path(name)); st.Size != int64(len(got)) {
			t.Errorf("lstat: size %d, want %d", st.Size, len(got))
		}
	}

	t.Run("ttl", func(t *testing.T) {
		src.moveTag(name, "a")
		m := mountSource(t, src, nil)
		for range 3 {
			want(m, "a")
		}
		src.moveTag(name, "b")
		want(m, "a")
		if got := src.requests(); len(got) != 1 {
			t.Errorf("asked %q, want one request", got)
		}
	})
	t.Run("moved", func(t *testing.T) {
		m := mountSource(t, src, &fs.Options{TagTTL: -1})
		for _, to := range []string{"a", "b", "c"} {
			src.moveTag(name, to)
			want(m, to)
		}
	})
	t.Run("stale", func(t *testing.T) {
		src.moveTag(name, "d")
		m := mountSource(t, src, &fs.Options{TagTTL: -1})
		want(m, "d")
		src.set(func(s *source) { s.refuse = syscall.EHOSTUNREACH })
		defer src.set(func(s *source) { s.refuse = nil })
		want(m, "d")
		if !strings.Contains(m.log.String(), "serves on") {
			t.Errorf("nothing is logged: %s", m.log)
		}
	})
	t.Run("slow", func(t *testing.T) {
		m := mountSource(t, src, nil) // that never saw the tag, but the store did
		src.set(func(s *source) { s.block = make(chan struct{}) })
		defer src.set(func(s *source) { s.block = nil })
		want(m, "d") // which is not waited for: it never answers
	})
	t.Run("gone", func(t *testing.T) {
		m := mountSource(t, src, &fs.Options{TagTTL: -1})
		want(m, "d")
		src.set(func(s *source) { delete(s.tags, name) })
		if got, err := m.readlink(name); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("a tag that is gone leads to %q, %v, want ENOENT", got, err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		m := mountSource(t, src, nil)
		src.set(func(s *source) { s.refuse = iofs.ErrPermission })
		defer src.set(func(s *source) { s.refuse = nil })
		if got, err := m.readlink(repo + ":never"); !errors.Is(err, syscall.EACCES) {
			t.Errorf("a tag that was never seen leads to %q, %v, want EACCES", got, err)
		}
	})
}

func TestOffline(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	src.seen[repo+":v1"] = im.index.desc
	for _, b := range []*blob{im.index, im.manifest, im.config} {
		b.complete(t)
	}
	im.layer.gate().edit(func(b *blob) { b.known = true })
	im.layer.release(0, 2)
	absent := src.add(repo, "", content(1, 10)).edit(func(b *blob) { b.known = true })
	m := mountSource(t, src, &fs.Options{Offline: true, Platform: amd64})

	if got, want := m.list("reg.example/team"), []string{"app", "app:v1"}; !slices.Equal(got, want) {
		t.Errorf("the list is %q, want %q", got, want)
	}
	var want []string
	for _, b := range []*blob{im.index, im.manifest, im.config, im.layer} {
		want = append(want, string(b.desc.Digest))
	}
	slices.Sort(want)
	if got := m.list(repo); !slices.Equal(got, want) {
		t.Errorf("the repository has %q, want %q", got, want)
	}
	run(t, "ls", "-lR", m.dir)
	m.wantRead(m.path(repo+":v1", "config.json"), im.config.content)
	part, err := call[Range, []byte](m.agent, "Read", Range{m.path(repo+":v1", "layers/0.tar.gz"), 0, 1000})
	if err != nil || !slices.Equal(part, im.layer.content[:1000]) {
		t.Errorf("the part of the layer that is here: %d bytes, %v", len(part), err)
	}
	for _, path := range []string{
		"other.example", "reg.example/none", repo + "/none", repo + ":none", absent.path(),
		repo + "@" + string(absent.desc.Digest), repo + "/" + string(digest.FromString("none")),
	} {
		if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(path)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v, want ENOENT", path, err)
		}
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("offline, asked %q", got)
	}
}
