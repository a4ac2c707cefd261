package fs_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"distfs/fs"
)

const repo = "reg.example/team/app"

func TestObject(t *testing.T) {
	src := newSource(t)
	sizes := []int{0, 1, 4096, 4097, 1 << 20, 4<<20 + 1, 9<<20 + 123}
	for _, pass := range []bool{true, false} {
		var blobs []*blob
		for i, n := range sizes {
			blobs = append(blobs, src.add(repo, "text/plain", content(byte(i), n)))
			blobs = append(blobs, src.add(repo, "text/plain", content(byte(i+100), n)).complete(t))
		}
		m := mountSource(t, src, &fs.Options{NoPassthrough: !pass})
		for range 2 {
			for _, b := range blobs {
				m.wantRead(m.path(b.path()), b.content)
			}
		}
	}
}

// TestSizeIsTold opens objects of which nothing is known and sends them
// without a stat: to the kernel they would be empty.
func TestSizeIsTold(t *testing.T) {
	src := newSource(t)
	m := mountSource(t, src, nil)
	for i := range 3 {
		b := src.add(repo, "", content(byte(i), 5<<20+7))
		n, err := call[string, int](m.agent, "Sendfile", m.path(b.path()))
		if err != nil || n != len(b.content) {
			t.Errorf("sendfile of %d bytes sent %d, %v", len(b.content), n, err)
		}
	}
}

// TestIdentity wants one st_ino of an object before, while and after it is
// fetched: cp and fts compare it between look-up and open.
func TestIdentity(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 6<<20)).gate()
	other := src.add("reg.example/team/other", "", b.content)
	m := mountSource(t, src, nil)
	path := m.path(b.path())
	absent := m.stat(path)
	fd, err := call[string, int](m.agent, "Open", path)
	if err != nil {
		t.Fatal(err)
	}
	partial := m.stat(path)
	b.release(0, 6)
	b.complete(t)
	whole := m.stat(path)
	if absent.Ino != partial.Ino || partial.Ino != whole.Ino {
		t.Errorf("st_ino is %d absent, %d partial, %d whole, want one", absent.Ino, partial.Ino, whole.Ino)
	}
	if o := m.stat(m.path(other.path())); o.Ino == whole.Ino {
		t.Errorf("st_ino is the same in two repositories")
	}
	m.wantRead(path, b.content)
	got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, -1})
	if err != nil || !slices.Equal(got, b.content) {
		t.Errorf("read of what was opened before it was whole: %d bytes, %v", len(got), err)
	}

	for _, st := range []unix.Stat_t{absent, partial, whole} {
		if st.Size != 6<<20 || st.Blocks != 6<<20/512 || st.Mtim.Nano() != 0 || st.Ctim.Nano() != 0 || st.Mode != unix.S_IFREG|0o444 || st.Nlink != 1 {
			t.Errorf("stat = %+v", st)
		}
	}
}

// TestIdentityStays over mounts of the same: whoever noted an inode finds it.
func TestIdentityStays(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	src.moveTag(repo+":v2", "a")
	var before []uint64
	for range 2 {
		m := mountSource(t, src, &fs.Options{Platform: amd64})
		m.list(im.dir)
		var now []uint64
		for _, path := range []string{"", "reg.example", repo, im.layer.path(), im.dir, im.dir + "/layers", im.dir + "/manifest.json", repo + ":v2", repo + "/.tags"} {
			now = append(now, m.stat(m.path(path)).Ino)
		}
		if before != nil && !slices.Equal(now, before) {
			t.Errorf("the inodes are %d, in the mount before they were %d", now, before)
		}
		before = now
	}
}

func TestSeek(t *testing.T) {
	const size = 6 << 20
	src := newSource(t)
	b := src.add(repo, "", content(1, size)).gate()
	m := mountSource(t, src, nil)
	path := m.path(b.path())
	check := func(state string) {
		for _, c := range []struct {
			off    int64
			whence int
			want   int64
			err    error
		}{
			{0, unix.SEEK_HOLE, size, nil},
			{size - 1, unix.SEEK_HOLE, size, nil},
			{123, unix.SEEK_DATA, 123, nil},
			{size, unix.SEEK_DATA, 0, syscall.ENXIO},
			{size, unix.SEEK_HOLE, 0, syscall.ENXIO},
			{-1, unix.SEEK_END, size - 1, nil},
		} {
			got, err := call[Range, int64](m.agent, "Seek", Range{path, c.off, c.whence})
			if !errors.Is(err, c.err) || err == nil && got != c.want {
				t.Errorf("%s: lseek(%d, %d) = %d, %v, want %d, %v", state, c.off, c.whence, got, err, c.want, c.err)
			}
		}
	}
	check("absent")
	b.release(2, 3)
	check("partial")
	b.complete(t)
	check("whole")
}

func TestXattr(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "text/plain", content(1, 6<<20+1)).gate()
	m := mountSource(t, src, nil)
	path := m.path(b.path())
	get := func(name string) string {
		v, err := call[[2]string, string](m.agent, "Xattr", [2]string{path, name})
		if err != nil {
			return err.Error()
		}
		return v
	}
	check := func(want map[string]string) {
		t.Helper()
		for name, v := range want {
			if got := get("user.distfs." + name); got != v {
				t.Errorf("user.distfs.%s = %q, want %q", name, got, v)
			}
		}
	}
	none := syscall.ENODATA.Error()
	check(map[string]string{"state": "absent", "local": "0", "mediatype": none, "digest": string(b.desc.Digest), "locator": repo})
	m.stat(path)
	b.release(0, 2)
	check(map[string]string{"state": "partial", "local": fmt.Sprint(2 << 20), "mediatype": "text/plain", "committed": none})
	b.complete(t)
	check(map[string]string{"state": "complete", "local": fmt.Sprint(6<<20 + 1), "committed": "2023-11-14T22:13:20Z", "other": none})
	if got := get(""); got != "" {
		t.Errorf("listxattr = %q, want nothing", got)
	}
	if got, want := get("security.selinux"), syscall.EOPNOTSUPP.Error(); got != want {
		t.Errorf("security.selinux = %q", got)
	}
}

// TestCopies runs what copies files over an object that is partly here, whose
// rest arrives while they read.
func TestCopies(t *testing.T) {
	for _, command := range []string{
		`cp "$1" "$2"`, `cp -a "$1" "$2"`, `cp --sparse=always "$1" "$2"`, `install -m 600 "$1" "$2"`, `cat "$1" > "$2"`,
		`tar -C "$(dirname "$1")" -S -c "$(basename "$1")" --force-local | tar -x -S -O > "$2"`,
		`tar -C "$(dirname "$1")" -c "$(basename "$1")" --force-local | tar -x -O > "$2"`,
		`dd if="$1" of="$2" bs=1M iflag=direct status=none`,
		`python3 -c 'import shutil,sys; shutil.copyfile(sys.argv[1], sys.argv[2])' "$1" "$2"`,
	} {
		t.Run(strings.Fields(command)[0], func(t *testing.T) {
			src := newSource(t)
			b := src.add(repo, "", content(1, 8<<20)).gate()
			b.release(0, 1)
			b.release(5, 6)
			m := mountSource(t, src, nil)
			m.stat(m.path(b.path()))
			b.edit(func(b *blob) { b.gated = false })
			to := t.TempDir() + "/copy"
			run(t, "sh", "-ec", command, "sh", m.path(b.path()), to)
			got, err := os.ReadFile(to)
			if err != nil || !slices.Equal(got, b.content) {
				t.Errorf("%s: %d bytes that differ, %v", command, len(got), err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 10))
	m := mountSource(t, src, nil)
	held, absent := string(b.desc.Digest), string(digest.FromString("absent"))
	for want, paths := range map[error][]string{
		nil: {
			"reg.example", "reg.example:5000/a/b/c", "localhost/a", "local/a", repo + "/x/y/z",
			repo + "@" + held, repo + ":v1@" + held,
		},
		syscall.ENOENT: {
			".git", "Makefile", ".Trash-0", "reg.example/.git", "reg.example/A", "reg.example/a..b",
			"reg.example/sha256:12", "reg.example/" + absent, repo + "/" + absent, repo + "@" + absent, repo + ":no",
			"reg.example" + strings.Repeat("/aaaaaaaaa", 26), repo + "@" + held + "/nothing",
		},
		syscall.ENAMETOOLONG: {"reg.example/" + strings.Repeat("a", 256)},
		syscall.ENOTDIR:      {repo + "/" + held + "/x"},
	} {
		for _, path := range paths {
			_, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(path))
			if !errors.Is(err, want) {
				t.Errorf("stat %s: %v, want %v", path, err, want)
			}
		}
	}
}

// TestDockerNames reads docker.io's short names, which mean library/NAME.
func TestDockerNames(t *testing.T) {
	src := newSource(t)
	b := src.add("docker.io/library/redis", "", content(1, 10))
	src.tags["docker.io/library/redis:7"] = b.desc
	m := mountSource(t, src, nil)
	for _, dir := range []string{"docker.io/library/redis", "docker.io/redis", "Docker.IO/redis"} {
		m.wantRead(m.path(dir, string(b.desc.Digest)), b.content)
		got, err := m.readlink(dir + ":7")
		if want := "redis@" + string(b.desc.Digest); err != nil || got != want {
			t.Errorf("%s:7 leads to %q, %v, want %q", dir, got, err, want)
		}
	}
	if got := m.list("docker.io"); !slices.Equal(got, []string{"library"}) {
		t.Errorf("docker.io has %q", got)
	}
}

// TestRequests wants none above an image, but for what is asked for by name.
func TestRequests(t *testing.T) {
	src := newSource(t)
	held := src.add(repo, "", content(1, 5<<20)).complete(t)
	half := src.add(repo, "", content(2, 5<<20)).gate()
	half.edit(func(b *blob) { b.known = true })
	half.release(0, 1)
	asked := src.add(repo, "", content(3, 10))
	m := mountSource(t, src, nil)
	want := func(what string, n int) {
		t.Helper()
		if got := src.requests(); len(got) != n {
			t.Errorf("%s asked %q, want %d requests", what, got, n)
		}
	}
	for range 2 {
		run(t, "find", m.dir)
		run(t, "ls", "-lR", m.dir)
		m.list("reg.example", "team")
		m.list("other.example", "x", "y")
		m.stat(m.path(held.path()))
		m.stat(m.path(half.path()))
		m.wantRead(m.path(held.path()), held.content)
	}
	run(t, "sh", "-c", `cd "$1"; cd ../app; test -e .git || test -e ../.hg || : `, "sh", m.path(repo))
	want("walking", 0)
	m.stat(m.path(asked.path()))
	want("stat of an unknown object", 1)
	m.stat(m.path(asked.path()))
	m.wantRead(m.path(asked.path()), asked.content)
	want("stat and read of a known one", 0)
}

func TestStatfsAndWrites(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 10))
	m := mountSource(t, src, nil)
	st, err := call[string, unix.Statfs_t](m.agent, "Statfs", m.dir)
	if err != nil || st.Blocks == 0 || st.Files == 0 || st.Namelen != 255 || st.Flags&unix.ST_RDONLY == 0 ||
		st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("statfs = %+v, %v", st, err)
	}
	if os.Geteuid() == 0 { // fusermount3 grants nobody else these
		asked := mountSource(t, src, &fs.Options{Suid: true, Dev: true})
		st, err := call[string, unix.Statfs_t](asked.agent, "Statfs", asked.dir)
		if err != nil || st.Flags&unix.ST_RDONLY == 0 || st.Flags&(unix.ST_NOSUID|unix.ST_NODEV) != 0 {
			t.Errorf("statfs with suid and dev = %+v, %v", st, err)
		}
	}
	for _, command := range []string{
		"touch x.example", "mkdir " + repo + "/.d", "rm -f " + b.path(), "rmdir reg.example", "mv reg.example b.example",
		"ln -s a b", "chmod 600 " + b.path(), "sh -c 'echo >> " + b.path() + "'", "setfattr -n user.x -v y " + b.path(),
	} {
		out := run(t, "sh", "-c", `cd "$1"; LC_ALL=C `+command+` 2>&1 || exit 0; echo worked`, "sh", m.dir)
		if !strings.Contains(out, "Read-only file system") && !strings.Contains(out, "not found") {
			t.Errorf("%s: %s", command, out)
		}
	}
	m.wantRead(m.path(b.path()), b.content)
}

func TestConform(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5000)
	m := mountSource(t, src, nil)
	m.list(im.dir) // enters it
	names := []string{im.config.path(), im.layer.path(), im.dir + "/manifest.json", im.dir + "/layers/0.tar.gz"}
	if _, err := call[[]string, int](m.agent, "Conform", append([]string{m.dir}, names[:2]...)); err != nil {
		t.Error(err)
	}
}
