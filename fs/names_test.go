package fs_test

import (
	"errors"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"distfs/fs"
	"distfs/locator"
)

// TestTwins goes to an image, and to all that is in it, without a colon.
func TestTwins(t *testing.T) {
	src := newSource(t)
	im := addImageTo(t, src, "localhost:5000/team/app", 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	const tag = "localhost=5000/team/app=v1"
	dgst := string(im.index.desc.Digest)
	dir := "localhost=5000/team/app@" + locator.Twin(dgst)

	for name, want := range map[string]string{
		tag:                          path.Base(dir),
		dir + "/index.json":          "../app/" + locator.Twin(dgst),
		dir + "/manifest.json":       "../app/" + locator.Twin(string(im.manifest.desc.Digest)),
		dir + "/config.json":         "../app/" + locator.Twin(string(im.config.desc.Digest)),
		dir + "/layers/0.tar.gz":     "../../app/" + locator.Twin(string(im.layer.desc.Digest)),
		"localhost=5000/team/app:v1": "app@" + dgst,
	} {
		if got, err := m.readlink(name); err != nil || got != want {
			t.Errorf("%s leads to %q, %v, want %q", name, got, err, want)
		}
	}
	m.wantRead(m.path(tag, "layers/0.tar.gz"), im.layer.content)
	m.wantRead(m.path("localhost=5000/team/app", locator.Twin(dgst)), im.index.content)
	m.wantRead(m.path("localhost=5000/team/app=v1@"+locator.Twin(dgst), "config.json"), im.config.content)

	// A twin directory is no other's dentry; a file is the same by any name.
	for _, name := range []string{"localhost:5000", "localhost:5000/team", "localhost:5000/team/app@" + dgst, "localhost:5000/team/app@" + dgst + "/layers"} {
		if a, b := m.stat(m.path(name)), m.stat(m.path(locator.Twin(name))); a.Ino == b.Ino {
			t.Errorf("%s and its twin are one inode", name)
		}
	}
	object := "localhost:5000/team/app/" + dgst
	if a, b := m.stat(m.path(object)), m.stat(m.path(locator.Twin(object))); a.Ino != b.Ino {
		t.Errorf("%s and its twin are inodes %d and %d", object, a.Ino, b.Ino)
	}

	// None is listed, and what was entered by a twin's name is by its own.
	if out := run(t, "find", m.dir, "-name", "*=*"); out != "" {
		t.Errorf("find sees twins: %s", out)
	}
	for _, dir := range []string{"localhost:5000/team", "localhost=5000/team"} {
		if got, want := m.list(dir), []string{"app", "app:v1@" + dgst, "app@" + dgst}; !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
}

// TestDockerShortNames reads docker.io's images by their short names, as by those
// in full.
func TestDockerShortNames(t *testing.T) {
	src := newSource(t)
	im := addImageTo(t, src, "docker.io/library/redis", 5<<20)
	stack := src.add("docker.io/redis/redis-stack", "", content(1, 100))
	dgst := string(im.index.desc.Digest)
	for _, opts := range []*fs.Options{{Platform: amd64}, {Platform: amd64, Offline: true}} {
		m := mountSource(t, src, opts)
		for _, name := range []string{"redis:v1", "redis=v1", "library/redis:v1", "redis@" + dgst, "library/redis@" + dgst} {
			m.wantRead(m.path("docker.io", name, "config.json"), im.config.content)
		}
		for _, dir := range []string{"docker.io/redis", "docker.io/library/redis", "index.docker.io/redis", "registry-1.docker.io/library/redis"} {
			m.wantRead(m.path(dir, dgst), im.index.content)
		}
		m.wantRead(m.path(stack.path()), stack.content)
		for _, host := range []string{"index.docker.io", "registry-1.docker.io", "Index.docker.io"} {
			if got, err := m.readlink(host); err != nil || got != "docker.io" {
				t.Errorf("%s leads to %q, %v, want docker.io", host, got, err)
			}
		}
		want := []string{"docker.io", "local"}
		if opts.Offline {
			want = want[:1]
		}
		if got := m.list(); !slices.Equal(got, want) {
			t.Errorf("the root has %q, want %q", got, want)
		}
		src.knownBlobs(func(b *blob) { b.complete(t) })
	}
	if got := src.requests(); slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(strings.Fields(s)[1], "docker.io/") }) {
		t.Errorf("asked %q", got)
	}
}

// TestNoName looks up what cannot exist, without asking.
func TestNoName(t *testing.T) {
	src := newSource(t)
	m := mountSource(t, src, nil)
	for _, name := range []string{
		"Makefile", "redis=v1", "=", ".tags", "reg.example/.git", "reg.example/.tags", "reg.example/a=", "reg.example/=v1",
		"reg.example/sha256=abc", "reg.example/a/b=c=d", "localhost=0",
	} {
		if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(name)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("lstat %s: %v, want ENOENT", name, err)
		}
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}
