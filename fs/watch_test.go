package fs_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"distfs/fs"
	"distfs/locator"
)

// know makes a blob one that its repository answered for, in whatever process.
func know(b *blob) { b.edit(func(b *blob) { b.known = true }) }

// TestListingIsKept lists again and again, by either spelling; the source is
// asked when it said that something changed, and not before.
func TestListingIsKept(t *testing.T) {
	src := newSource(t)
	know(src.add("localhost:5000/team/app", "", content(1, 10)))
	m := mountSource(t, src, nil)
	for _, dir := range []string{"", "localhost:5000", "localhost:5000/team", "localhost:5000/team/app"} {
		before := src.listings(dir)
		first := m.list(dir)
		for range 5 {
			if got := m.list(dir); !slices.Equal(got, first) {
				t.Errorf("%q has %q, it had %q", dir, got, first)
			}
		}
		if n := src.listings(dir) - before; n != 1 {
			t.Errorf("six listings of %q asked %d times", dir, n)
		}
	}
	m.list("localhost=5000/team")

	know(src.add("localhost:5000/team/other", "", content(2, 10)))
	src.tell("localhost:5000/team")
	for _, dir := range []string{"localhost:5000/team", "localhost=5000/team"} {
		if got, want := m.list(dir), []string{"app", "other"}; !slices.Equal(got, want) {
			t.Errorf("after a change %s has %q, want %q", dir, got, want)
		}
	}
	n := src.listings("")
	m.list("")
	if src.listings("") != n {
		t.Error("the change of one directory ended the listing of another")
	}
	know(src.add("b.example/x", "", content(3, 10)))
	src.tell()
	if got, want := m.list(""), []string{"b.example", "local", "localhost:5000"}; !slices.Equal(got, want) {
		t.Errorf("after a change of all the root has %q, want %q", got, want)
	}
}

// TestOpenDirectoryFollows rewinds a directory that was open when it changed.
func TestOpenDirectoryFollows(t *testing.T) {
	src := newSource(t)
	know(src.add(repo, "", content(1, 10)))
	m := mountSource(t, src, nil)
	fd, err := call[string, int](m.agent, "Open", m.path("reg.example/team"))
	if err != nil {
		t.Fatal(err)
	}
	defer call[int, int](m.agent, "Close", fd)
	relist := func() []string {
		t.Helper()
		names, err := call[int, []string](m.agent, "Relist", fd)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for range 2 {
		if got := relist(); !slices.Equal(got, []string{"app"}) {
			t.Errorf("it has %q", got)
		}
	}
	know(src.add("reg.example/team/other", "", content(1, 10)))
	src.tell("reg.example/team")
	for over := within(t, timeLimit); ; {
		got := relist()
		if slices.Equal(got, []string{"app", "other"}) {
			return
		}
		if over.Err() != nil {
			t.Fatalf("the kernel still lists %q", got)
		}
	}
}

// TestUnwatchedIsNotKept lists what nobody tells the changes of.
func TestUnwatchedIsNotKept(t *testing.T) {
	src := newSource(t)
	src.unwatched = syscall.ENOSPC
	b := src.add(repo, "", content(1, 10))
	know(b)
	m := mountSource(t, src, nil)
	want := []string{string(b.desc.Digest)}
	for i := range 3 {
		if got := m.list(repo); !slices.Equal(got, want) {
			t.Errorf("it has %q, want %q", got, want)
		}
		m.list("reg.example/team")
		next := src.add(repo, "", content(byte(2+i), 10))
		know(next)
		want = append(want, string(next.desc.Digest))
		slices.Sort(want)
	}
	if n := strings.Count(m.log.String(), "not all listings are kept"); n != 1 {
		t.Errorf("the log says so %d times, want once: %s", n, m.log)
	}
}

// TestListingOfLearnt lists what this mount itself came to know.
func TestListingOfLearnt(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	know(im.index)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	for range 2 {
		m.list("reg.example/team")
		m.list(repo)
	}
	m.list(im.dir)
	if got := m.list("reg.example/team"); !slices.Contains(got, "app@"+string(im.index.desc.Digest)) {
		t.Errorf("the image that was entered is not listed: %q", got)
	}
	if got := m.list(repo); !slices.Contains(got, string(im.layer.desc.Digest)) {
		t.Errorf("what the manifest names is not listed: %q", got)
	}
}

// TestFetchedImageIsListed as soon as the source has it, and no more when it
// has not, for then a walk would fetch it.
func TestFetchedImageIsListed(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	dgst := im.index.desc.Digest
	know(im.layer)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	m.list("reg.example/team")
	im.index.complete(t)
	im.manifest.complete(t)
	ref := locator.Reference{Locator: im.index.loc, Tag: "v1", Digest: dgst}
	absent := locator.Reference{Locator: im.index.loc, Digest: digest.FromString("absent")}
	src.set(func(s *source) { s.images = []locator.Reference{ref, ref, absent} })
	src.tell()
	if got, want := m.list("reg.example/team"), []string{"app", "app@" + string(dgst)}; !slices.Equal(got, want) {
		t.Errorf("it has %q, want %q", got, want)
	}
	run(t, "ls", "-lR", m.dir)
	if got := src.requests(); len(got) > 0 {
		t.Errorf("a walk asked %q", got)
	}
	im.manifest.lose()
	src.tell()
	if got, want := m.list("reg.example/team"), []string{"app"}; !slices.Equal(got, want) {
		t.Errorf("when its manifest is gone it has %q, want %q", got, want)
	}
	run(t, "ls", "-lR", m.dir)
	if got := src.requests(); len(got) > 0 {
		t.Errorf("a walk asked %q", got)
	}
}
