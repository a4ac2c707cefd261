package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// checkReadOnlyPOSIX asks a tree of the Debian image, at root, for what POSIX
// has of a read-only file system.
func checkReadOnlyPOSIX(t *testing.T, root string) {
	t.Helper()
	t.Run("nothing can be changed", func(t *testing.T) { checkReadOnly(t, root) })
	t.Run("errors", func(t *testing.T) { checkErrors(t, root) })
	t.Run("directories", func(t *testing.T) { checkDirectories(t, filepath.Join(root, "opt/many"), manyFiles-1) })
	t.Run("links", func(t *testing.T) { checkLinks(t, root) })
	t.Run("reads", func(t *testing.T) { checkReads(t, filepath.Join(root, "srv/large")) })
	t.Run("attributes", func(t *testing.T) { checkAttributes(t, root) })
}

func checkReadOnly(t *testing.T, root string) {
	t.Helper()
	file, dir, link, absent := root+"/srv/noted", root+"/srv/noted.d", root+"/srv/link", root+"/srv/absent"
	now := []unix.Timespec{{}, {}}
	opened := func(flags int) func() error {
		return func() error {
			fd, err := unix.Open(file, flags, 0)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}
	}
	for name, change := range map[string]func() error{
		"open to write":        opened(unix.O_WRONLY),
		"open to read, write":  opened(unix.O_RDWR),
		"open to append":       opened(unix.O_WRONLY | unix.O_APPEND),
		"open and truncate":    opened(unix.O_RDONLY | unix.O_TRUNC),
		"create":               func() error { _, err := unix.Open(absent, unix.O_CREAT|unix.O_RDONLY, 0o600); return err },
		"a file without name":  func() error { _, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600); return err },
		"mkdir":                func() error { return unix.Mkdir(absent, 0o700) },
		"mknod":                func() error { return unix.Mknod(absent, unix.S_IFREG|0o600, 0) },
		"mkfifo":               func() error { return unix.Mkfifo(absent, 0o600) },
		"symlink":              func() error { return unix.Symlink("x", absent) },
		"link":                 func() error { return unix.Link(file, absent) },
		"rename":               func() error { return unix.Rename(file, absent) },
		"rename a directory":   func() error { return unix.Rename(dir, absent) },
		"unlink":               func() error { return unix.Unlink(file) },
		"unlink a link":        func() error { return unix.Unlink(link) },
		"rmdir":                func() error { return unix.Rmdir(dir) },
		"truncate":             func() error { return unix.Truncate(file, 0) },
		"chmod":                func() error { return unix.Chmod(file, 0o777) },
		"chmod of a directory": func() error { return unix.Chmod(dir, 0o777) },
		"chown":                func() error { return unix.Chown(file, 1, 1) },
		"lchown":               func() error { return unix.Lchown(link, 1, 1) },
		"utimensat":            func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, file, now, 0) },
		"utimensat of a link":  func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, link, now, unix.AT_SYMLINK_NOFOLLOW) },
		"setxattr":             func() error { return unix.Setxattr(file, "user.new", nil, 0) },
		"removexattr":          func() error { return unix.Removexattr(file, "user.a") },
		"access to write":      func() error { return unix.Access(file, unix.W_OK) },
		"access to write, dir": func() error { return unix.Access(dir, unix.W_OK) },
	} {
		if err := change(); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want %v", name, err, unix.EROFS)
		}
	}
}

func checkErrors(t *testing.T, root string) {
	t.Helper()
	open := func(name string, flags int) func() error {
		return func() error {
			fd, err := unix.Open(root+"/"+name, flags, 0)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}
	}
	var st unix.Stat_t
	stat := func(name string) func() error { return func() error { return unix.Stat(root+"/"+name, &st) } }
	buf := make([]byte, 64)
	for name, c := range map[string]struct {
		call func() error
		want error
	}{
		"absent":                   {stat("srv/absent"), unix.ENOENT},
		"below what is absent":     {stat("srv/absent/x"), unix.ENOENT},
		"dots, slashes":            {stat("srv//./noted.d/..//one"), nil},
		"whiteout":                 {stat("srv/two"), unix.ENOENT},
		"a whiteout's own name":    {stat("srv/.wh.two"), unix.ENOENT},
		"a marker's own name":      {stat("usr/share/doc/.wh..wh..opq"), unix.ENOENT},
		"below a file":             {stat("srv/one/x"), unix.ENOTDIR},
		"a file with a slash":      {stat("srv/one/"), unix.ENOTDIR},
		"below a fifo":             {stat("srv/pipe/x"), unix.ENOTDIR},
		"O_DIRECTORY of a file":    {open("srv/one", unix.O_RDONLY|unix.O_DIRECTORY), unix.ENOTDIR},
		"256 bytes":                {stat("srv/" + strings.Repeat("n", 256)), unix.ENAMETOOLONG},
		"255 bytes":                {stat("srv/" + strings.Repeat("n", 255)), nil},
		"255 bytes that are not":   {stat("srv/" + strings.Repeat("m", 255)), unix.ENOENT},
		"a path of 4096 bytes":     {stat(strings.Repeat("srv/../", 600)), unix.ENAMETOOLONG},
		"a loop":                   {stat("srv/loop"), unix.ELOOP},
		"O_NOFOLLOW of a link":     {open("srv/link", unix.O_RDONLY|unix.O_NOFOLLOW), unix.ELOOP},
		"O_PATH of a link":         {open("srv/link", unix.O_PATH|unix.O_NOFOLLOW), nil},
		"a link to nowhere":        {stat("srv/nowhere"), unix.ENOENT},
		"a directory to write":     {open("srv", unix.O_WRONLY), unix.EISDIR},
		"O_EXCL of what is there":  {open("srv/one", unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY), unix.EEXIST},
		"mkdir of what is there":   {func() error { return unix.Mkdir(root+"/srv", 0o700) }, unix.EEXIST},
		"readlink of a file":       {func() error { _, err := unix.Readlink(root+"/srv/one", buf); return err }, unix.EINVAL},
		"an xattr that is not":     {func() error { _, err := unix.Getxattr(root+"/srv/one", "user.absent", buf); return err }, unix.ENODATA},
		"an xattr in a small one":  {func() error { _, err := unix.Getxattr(root+"/srv/noted", "user.a", buf); return err }, unix.ERANGE},
		"an xattr's size":          {func() error { _, err := unix.Getxattr(root+"/srv/noted", "user.a", nil); return err }, nil},
		"a list in a small buffer": {func() error { _, err := unix.Listxattr(root+"/srv/noted", buf[:1]); return err }, unix.ERANGE},
		"read of a directory":      {func() error { return readOf(root+"/srv", unix.O_RDONLY, buf) }, unix.EISDIR},
		"read by O_PATH":           {func() error { return readOf(root+"/srv/one", unix.O_PATH, buf) }, unix.EBADF},
	} {
		if err := c.call(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func readOf(path string, flags int, buf []byte) error {
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Read(fd, buf)
	return err
}

// A dirent is what getdents64 says of a name, and of the place behind it.
type dirent struct {
	name string
	ino  uint64
	kind byte
	next int64
}

// readDirents reads the rest of an open directory, in small pieces.
func readDirents(t *testing.T, fd int) (list []dirent) {
	t.Helper()
	buf := make([]byte, 1000)
	for {
		n, err := unix.Getdents(fd, buf)
		must(t, err)
		if n == 0 {
			return list
		}
		for b := buf[:n]; len(b) > 0; {
			reclen := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:reclen], []byte{0})
			list = append(list, dirent{string(name), binary.NativeEndian.Uint64(b), b[18], int64(binary.NativeEndian.Uint64(b[8:]))})
			b = b[reclen:]
		}
	}
}

// checkDirectories reads a directory of n names: once, from the start again, and
// from every place that it was told of.
func checkDirectories(t *testing.T, dir string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	all := readDirents(t, fd)
	seek := func(to int64) {
		_, err := unix.Seek(fd, to, unix.SEEK_SET)
		must(t, err)
	}
	seek(0)
	if again := readDirents(t, fd); !slices.Equal(again, all) {
		t.Errorf("read again it has %d names in another order, or not the %d", len(again), len(all))
	}
	seen := make(map[string]bool)
	for i, e := range all {
		if seen[e.name] {
			t.Fatalf("%q is there twice", e.name)
		}
		seen[e.name] = true
		if i%97 != 0 && i < len(all)-3 {
			continue
		}
		seek(e.next)
		if rest := readDirents(t, fd); !slices.Equal(rest, all[i+1:]) {
			t.Fatalf("from behind %q it has %d names, want the %d that came", e.name, len(rest), len(all)-i-1)
		}
	}
	if got := len(seen); !seen["."] || !seen[".."] || got != n+2 {
		t.Errorf("it has %d names, want %d with . and ..", got, n+2)
	}
	var st unix.Stat_t
	for _, e := range all {
		if e.name == ".." {
			continue // of the mount's root it is the directory above
		}
		must(t, unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW))
		if e.ino != st.Ino || uint32(e.kind)<<12 != st.Mode&unix.S_IFMT {
			t.Fatalf("%q is listed as inode %d of type %d, and is %d of mode %o", e.name, e.ino, e.kind, st.Ino, st.Mode)
		}
	}
}

func checkLinks(t *testing.T, root string) {
	t.Helper()
	var one, three, link unix.Stat_t
	must(t, unix.Lstat(root+"/srv/one", &one), unix.Lstat(root+"/usr/share/menu/three", &three), unix.Lstat(root+"/srv/nowhere", &link))
	if one.Ino != three.Ino || one.Nlink != 2 || three.Nlink != 2 {
		t.Errorf("two names of one file are inodes %d and %d, with %d and %d links; want one with 2", one.Ino, three.Ino, one.Nlink, three.Nlink)
	}
	target, err := os.Readlink(root + "/srv/nowhere")
	if want := "/absent/über/" + strings.Repeat("x", 300); err != nil || target != want || link.Size != int64(len(want)) {
		t.Errorf("a link leads to %q (%v) and has size %d, want %q", target, err, link.Size, want)
	}
	if to, err := os.Readlink(root + "/etc/issue.net"); to != "/etc/debian_version/12" {
		t.Errorf("an absolute link leads to %q (%v)", to, err)
	}
}

// checkReads reads a file of 26 MiB in every way.
func checkReads(t *testing.T, path string) {
	t.Helper()
	want, err := os.ReadFile(path)
	must(t, err)
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	fd, size := int(f.Fd()), int64(len(want))
	for _, c := range []struct {
		off int64
		n   int
	}{{0, 1}, {0, 4096}, {1, 4095}, {4095, 2}, {128<<10 - 1, 2}, {1<<20 - 3, 2 << 20}, {size - 1, 1}, {size - 10, 100}, {size, 10}, {size + 1, 10}, {1 << 62, 10}} {
		buf := make([]byte, c.n)
		n, err := unix.Pread(fd, buf, c.off)
		rest := want[min(c.off, size):]
		if err != nil || !bytes.Equal(buf[:max(n, 0)], rest[:min(c.n, len(rest))]) {
			t.Errorf("pread of %d at %d: %d bytes, %v; want %d", c.n, c.off, n, err, min(c.n, len(rest)))
		}
	}
	mapped, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	if !bytes.Equal(mapped, want) {
		t.Error("mapped, it has other bytes")
	}
	if past := mapped[: (size+4095)/4096*4096 : cap(mapped)]; slices.ContainsFunc(past[size:], func(b byte) bool { return b != 0 }) {
		t.Error("behind its end, the last page that is mapped is not zero")
	}
	must(t, unix.Munmap(mapped))
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("mmap to write: %v, want %v", err, unix.EACCES)
	}
	hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	data, err2 := unix.Seek(fd, 5, unix.SEEK_DATA)
	_, err3 := unix.Seek(fd, size, unix.SEEK_DATA)
	if err != nil || err2 != nil || hole != size || data != 5 || !errors.Is(err3, unix.ENXIO) {
		t.Errorf("the first hole is at %d (%v), data from 5 on at %d (%v), behind the end %v; want %d, 5, %v", hole, err, data, err2, err3, size, unix.ENXIO)
	}
}

func checkAttributes(t *testing.T, root string) {
	t.Helper()
	for _, name := range []string{"srv/large", "srv/empty", "srv/one", "usr/bin/ping"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(root, name), &st))
		if st.Blksize <= 0 || st.Blocks*512 < st.Size {
			t.Errorf("%s: %d blocks, and %d to read at once, of %d bytes", name, st.Blocks, st.Blksize, st.Size)
		}
	}
	var fs unix.Statfs_t
	must(t, unix.Statfs(root, &fs))
	if fs.Namelen != 255 || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("statfs: names of up to %d bytes, flags %#x, want 255 and read-only", fs.Namelen, fs.Flags)
	}
	if _, err := unix.Open(filepath.Join(root, "dev/null"), unix.O_RDONLY, 0); !errors.Is(err, unix.EACCES) {
		t.Errorf("open of a device: %v, want %v", err, unix.EACCES)
	}
	for _, name := range []string{"user.distfs.layer", "user.distfs.digest"} {
		buf := make([]byte, 200)
		n, err := unix.Getxattr(filepath.Join(root, "srv/one"), name, buf)
		if err != nil || n == 0 {
			t.Errorf("getxattr %s: %q, %v", name, buf[:max(n, 0)], err)
		}
	}
}

// checkUsers asks as root and as nobody, at a mount of root's with --allow-other.
func checkUsers(t *testing.T, root string) {
	t.Helper()
	for _, c := range []struct {
		script       string
		root, nobody bool // may
	}{
		{"cat srv/one", true, true},
		{"ls srv/noted.d", true, true},
		{"cat etc/secret", true, false},
		{"ls etc/debian_version", true, false}, // 0711
		{"cat etc/debian_version/13", true, true},
		{"ls root", true, false},
		{"test -x usr/bin/ping", true, true},
		{"test -x srv/one", false, false},
		{"test -w srv/one", false, false},
	} {
		for user, may := range map[uint32]bool{0: c.root, nobody: c.nobody} {
			if out, err := runAs(t, user, root, c.script); (err == nil) != may {
				t.Errorf("%s as user %d: %v, %s; want that it may: %v", c.script, user, err, out, may)
			}
		}
	}
}

// checkAlone asks as nobody at a mount of nobody's own, to whom all is open.
func checkAlone(t *testing.T, root string) {
	t.Helper()
	for _, script := range []string{"cat etc/secret", "ls etc/debian_version", "ls root", "find . -type f -exec cat {} +"} {
		if out, err := runAs(t, nobody, root, script); err != nil {
			t.Errorf("%s as who mounted: %v, %.1000s", script, err, out)
		}
	}
}

// nobody is a user who has no rights here.
const nobody = 65534

func runAs(t *testing.T, user uint32, dir, script string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "cd '"+dir+"' && { "+script+"; } >/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	return cmd.CombinedOutput()
}

// openDevice lets all users open /dev/fuse while the test runs, as udev has it.
func openDevice(t *testing.T) {
	t.Helper()
	info, err := os.Stat("/dev/fuse")
	must(t, err, os.Chmod("/dev/fuse", 0o666))
	t.Cleanup(func() { must(t, os.Chmod("/dev/fuse", info.Mode())) })
}
