package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tree is all that is in a directory, by path from there; the directory itself is ".".
type tree map[string]*file

// A file is all that can be told of one, but for what time and place make of it.
type file struct {
	mode     uint32
	uid, gid uint32
	mtime    time.Time
	rdev     uint64 // of devices
	size     int64  // but for directories
	links    uint64 // but for directories
	target   string // of symbolic links
	content  [sha256.Size]byte
	xattrs   string // names in their order, with their values

	ino   uint64
	names string // in this tree, of the same inode; but for directories
}

// readTree reads all of dir.
func readTree(t *testing.T, dir string) tree {
	t.Helper()
	all, names := make(tree), make(map[uint64][]string)
	err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := readFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if d.Type() != iofs.FileMode(0) && path != dir && d.Type().IsDir() != (f.mode&unix.S_IFMT == unix.S_IFDIR) {
			return fmt.Errorf("%s: listed as %v, and has mode %o", path, d.Type(), f.mode)
		}
		name, err := filepath.Rel(dir, path)
		all[name] = f
		names[f.ino] = append(names[f.ino], name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.mode&unix.S_IFMT != unix.S_IFDIR {
			f.names = fmt.Sprintf("%q", names[f.ino])
		}
	}
	return all
}

func readFile(path string) (*file, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, err
	}
	f := &file{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: time.Unix(st.Mtim.Unix()), ino: st.Ino}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR {
		f.links, f.size = uint64(st.Nlink), st.Size //nolint:unconvert // it has 32 bits elsewhere
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		f.content, err = hash(path)
	case unix.S_IFLNK:
		f.target, err = os.Readlink(path)
	case unix.S_IFCHR, unix.S_IFBLK:
		f.rdev = st.Rdev
	}
	if err != nil {
		return nil, err
	}
	f.xattrs, err = readXattrs(path)
	return f, err
}

func hash(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	h.Sum(sum[:0])
	return sum, err
}

// readXattrs asks for the names and then for each value, as cp -a does.
func readXattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", fmt.Errorf("listxattr: %w", err)
	}
	var all []string
	for name := range bytes.SplitSeq(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return "", fmt.Errorf("getxattr %s: %w", name, err)
		}
		all = append(all, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}

// A likeness is what trees may differ in and are still the same.
type likeness struct {
	since   time.Time // unless zero: a directory that was changed from then on in the tree that is wanted has any time
	seconds bool      // times are rounded to the second
	links   bool      // counts of links may be those of what is hidden too
}

// differences says in what got is not as want, both ways.
func (l likeness) differences(want, got tree) []string {
	all := maps.Clone(want)
	maps.Copy(all, got)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, g := want[name], got[name]
		switch {
		case g == nil:
			list = append(list, fmt.Sprintf("%q is missing: %o", name, w.mode))
		case w == nil:
			list = append(list, fmt.Sprintf("%q should not be: %o", name, g.mode))
		default:
			if said := l.compare(w, g); len(said) > 0 {
				list = append(list, fmt.Sprintf("%q has %s", name, strings.Join(said, "; ")))
			}
		}
	}
	return list
}

// compare says in what one file is not as the other.
func (l likeness) compare(w, g *file) (said []string) {
	differs := func(what string, differ bool, want, got any) {
		if differ {
			said = append(said, fmt.Sprintf("%s %v, want %v", what, got, want))
		}
	}
	oct := func(mode uint32) string { return fmt.Sprintf("%06o", mode) }
	differs("mode", w.mode != g.mode, oct(w.mode), oct(g.mode))
	differs("owner", w.uid != g.uid, w.uid, g.uid)
	differs("group", w.gid != g.gid, w.gid, g.gid)
	differs("device", w.rdev != g.rdev, w.rdev, g.rdev)
	differs("size", w.size != g.size, w.size, g.size)
	differs("links", !l.links && w.links != g.links, w.links, g.links)
	differs("names", w.names != g.names, w.names, g.names)
	differs("target", w.target != g.target, w.target, g.target)
	differs("xattrs", w.xattrs != g.xattrs, w.xattrs, g.xattrs)
	differs("SHA-256", w.content != g.content, fmt.Sprintf("%x", w.content), fmt.Sprintf("%x", g.content))
	mtime := w.mtime
	if l.seconds {
		mtime = mtime.Round(time.Second)
	}
	anyTime := !l.since.IsZero() && w.mode&unix.S_IFMT == unix.S_IFDIR && !w.mtime.Before(l.since)
	differs("mtime", !anyTime && !mtime.Equal(g.mtime), mtime.UTC(), g.mtime.UTC())
	return said
}

// mostDifferences is how many a test prints.
const mostDifferences = 20

// sameTrees fails where got is not as want.
func (l likeness) sameTrees(t *testing.T, want, got tree) {
	t.Helper()
	list := l.differences(want, got)
	for _, d := range list[:min(len(list), mostDifferences)] {
		t.Error(d)
	}
	if n := len(list) - mostDifferences; n > 0 {
		t.Errorf("and %d more of %d files", n, len(want))
	}
}

// sameInodes fails where a file has not the number that it had.
func sameInodes(t *testing.T, before, now tree) {
	t.Helper()
	for name, f := range before {
		if now[name] != nil && now[name].ino != f.ino {
			t.Errorf("%q is inode %d, and was %d", name, now[name].ino, f.ino)
			return
		}
	}
}

// TestDifferences breaks every attribute of a tree, one at a time.
func TestDifferences(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: it makes devices and changes owners")
	}
	sample := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "d/f")
		writeFile(t, path, []byte("content"))
		old := time.Unix(1_000_000, 400_000_000)
		must(t, os.Symlink("f", filepath.Join(dir, "d/s")), os.Link(path, filepath.Join(dir, "d/g")), unix.Mknod(filepath.Join(dir, "d/c"), unix.S_IFCHR|0o600, 0),
			os.WriteFile(filepath.Join(dir, "d/h"), nil, 0o600), unix.Setxattr(path, "user.x", []byte("1"), 0))
		for _, name := range []string{"d/c", "d/f", "d/h", "d/s", "d", "."} {
			ts := []unix.Timespec{unix.NsecToTimespec(old.UnixNano()), unix.NsecToTimespec(old.UnixNano())}
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), ts, unix.AT_SYMLINK_NOFOLLOW))
		}
		return dir
	}
	want := readTree(t, sample(t))
	for name, c := range map[string]struct {
		do   func(d string) error
		want string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"mode":    {func(d string) error { return os.Chmod(d+"/d", 0o700) }, "mode"},
		"owner":   {func(d string) error { return os.Lchown(d+"/d/s", 1, -1) }, "owner"},
		"group":   {func(d string) error { return os.Lchown(d+"/d/s", -1, 1) }, "group"},
		"mtime":   {func(d string) error { return os.Chtimes(d+"/d", time.Unix(0, 1), time.Unix(1_000_000, 400_000_001)) }, "mtime"},
		"xattr":   {func(d string) error { return unix.Setxattr(d+"/d/f", "user.x", []byte("2"), 0) }, "xattrs"},
		"unlisted": {func(d string) error {
			return errors.Join(unix.Removexattr(d+"/d/f", "user.x"), unix.Setxattr(d+"/d/f", "user.y", []byte("1"), 0))
		}, "xattrs"},
		"content": {func(d string) error {
			return rewrite(d+"/d/f", func() error { return os.WriteFile(d+"/d/f", []byte("kontent"), 0) })
		}, "SHA-256"},
		"target": {func(d string) error {
			return rewrite(d+"/d", func() error { return errors.Join(os.Remove(d+"/d/s"), os.Symlink("g", d+"/d/s")) })
		}, "target"},
		"links": {func(d string) error {
			return rewrite(d+"/d", func() error {
				return errors.Join(os.Remove(d+"/d/g"), os.Link(d+"/d/h", d+"/d/g"))
			})
		}, "names"},
		"missing": {func(d string) error { return rewrite(d+"/d", func() error { return os.Remove(d + "/d/c") }) }, "missing"},
		"surplus": {func(d string) error {
			return rewrite(d, func() error { return os.Mkdir(d+"/e", 0o700) })
		}, "should not be"},
		"device": {func(d string) error {
			return rewrite(d+"/d", func() error {
				return errors.Join(os.Remove(d+"/d/c"), unix.Mknod(d+"/d/c", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			})
		}, "device"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := sample(t)
			must(t, c.do(dir))
			list := likeness{}.differences(want, readTree(t, dir))
			said := strings.Join(list, "\n")
			if c.want == "" && said != "" || !strings.Contains(said, c.want) {
				t.Errorf("differences are %q, want %q", said, c.want)
			}
		})
	}
}

// rewrite does what changes a file or directory and leaves it its time.
func rewrite(path string, do func() error) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return errors.Join(do(), os.Chtimes(path, info.ModTime(), info.ModTime()))
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
