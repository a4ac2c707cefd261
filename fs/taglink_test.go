package fs_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"distfs/fs"
)

// TestLookupAsksNothing names all there is above an image, and what is in one
// whose names grammar tells.
func TestLookupAsksNothing(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{TagTTL: -1})
	for _, path := range []string{
		"other.example", "other.example/a/b", repo + ":v1", repo + ":none", repo + "=v1", im.layer.path(), repo + "/" + string(digest.FromString("none")),
		im.dir, im.dir + "/manifest.json", im.dir + "/index.json", im.dir + "/config.json", im.dir + "/layers", repo + "/.tags",
	} {
		fd, err := call[string, int](m.agent, "Name", m.path(path))
		if err != nil {
			t.Errorf("look-up of %s: %v", path, err)
		}
		defer call[int, int](m.agent, "Close", fd)
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("looking up asked %q", got)
	}
}

// TestTagIsBound holds one link of a tag while the tag moves: what it was when
// it was asked first, it is for life, and the path leads to another inode.
func TestTagIsBound(t *testing.T) {
	src := newSource(t)
	name := repo + ":v1"
	src.moveTag(name, "a")
	m := mountSource(t, src, &fs.Options{TagTTL: -1})
	held, err := call[string, int](m.agent, "Name", m.path(name))
	if err != nil {
		t.Fatal(err)
	}
	leads := func(want string) {
		t.Helper()
		got, err := call[int, string](m.agent, "Freadlink", held)
		if err != nil || got != "app@"+string(digest.FromString(want)) {
			t.Errorf("the link that is held leads to %q, %v, want that of %q", got, err, want)
		}
	}
	leads("a")
	before, err := call[int, unix.Stat_t](m.agent, "Fstat", held)
	if err != nil {
		t.Fatal(err)
	}
	src.moveTag(name, "b")
	leads("a")
	if got := src.requests(); len(got) != 1 {
		t.Errorf("asked %q for one link", got)
	}
	if got, err := m.readlink(name); err != nil || got != "app@"+string(digest.FromString("b")) {
		t.Errorf("the path leads to %q, %v, want that of b", got, err)
	}
	if after := m.stat(m.path(name)); after.Ino == before.Ino {
		t.Error("the tag moved and the link is the same inode")
	}
	leads("a")
}

// TestTagHolds looks one up again and again: it is one inode and one request.
func TestTagHolds(t *testing.T) {
	src := newSource(t)
	name := repo + ":v1"
	src.moveTag(name, "a")
	m := mountSource(t, src, &fs.Options{TagTTL: time.Hour})
	ino := m.stat(m.path(name)).Ino
	for range 3 {
		if _, err := m.readlink(name); err != nil {
			t.Error(err)
		}
		if st := m.stat(m.path(name)); st.Ino != ino {
			t.Errorf("the link is inode %d, it was %d", st.Ino, ino)
		}
	}
	if got := src.requests(); len(got) != 1 {
		t.Errorf("asked %q, want one request", got)
	}
}

// TestOpenFileOfTag reads on in what a tag was when the file was opened.
func TestOpenFileOfTag(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: amd64, TagTTL: -1})
	path := m.path(repo+":v1", "manifest.json")
	fd, err := call[string, int](m.agent, "Open", path)
	if err != nil {
		t.Fatal(err)
	}
	other := src.add(repo, im.manifest.desc.MediaType, append([]byte(" "), im.manifest.content...))
	src.set(func(s *source) { s.tags[repo+":v1"] = other.desc })
	m.wantRead(path, other.content)
	got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, -1})
	if err != nil || string(got) != string(im.manifest.content) {
		t.Errorf("the open file has %q, %v, want what it was", got, err)
	}
}

// TestStaleIsSaidOnce asks for a tag while its registry is away, for longer
// than one answer from memory holds.
func TestStaleIsSaidOnce(t *testing.T) {
	src := newSource(t)
	name := repo + ":v1"
	src.moveTag(name, "a")
	m := mountSource(t, src, &fs.Options{TagTTL: -1})
	asks := func() {
		t.Helper()
		if got, err := m.readlink(name); err != nil || got != "app@"+string(digest.FromString("a")) {
			t.Fatalf("the tag leads to %q, %v", got, err)
		}
	}
	asks()
	src.set(func(s *source) { s.refuse = syscall.EHOSTUNREACH })
	src.requests()
	n, over := 0, within(t, timeLimit)
	for n < 2 && over.Err() == nil {
		asks()
		n += len(src.requests())
	}
	if said := strings.Count(m.log.String(), "serves on"); n < 2 || said != 1 {
		t.Errorf("after %d requests the log says so %d times, want once: %s", n, said, m.log)
	}
	src.set(func(s *source) { s.refuse = nil })
	for n = 0; n == 0 && over.Err() == nil; n = len(src.requests()) {
		asks()
	}
	src.set(func(s *source) { s.refuse = syscall.EHOSTUNREACH })
	asks()
	if said := strings.Count(m.log.String(), "serves on"); said != 2 {
		t.Errorf("the second time the log says so %d times in all, want twice: %s", said, m.log)
	}
}
