package image_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"distfs/image"
	"distfs/internal/testlayer"
	"distfs/layer"
)

// overlay returns what testlayer.ReadTree tells of the kernel's overlay of the tree's
// layers, written to a disk, as withoutLinks has it.
func overlay(t *testing.T, tree *image.Tree, layers [][]testlayer.File) (lines map[string]string, err error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "overlay") //nolint:usetesting // a test's may have a comma, which ends an option of mount's
	if err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return nil, err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	w := writer{contents: make(map[[sha256.Size]byte]string)}
	lowers := []string{filepath.Join(dir, "nothing")} // an overlay takes no less than two
	for i, files := range layers {
		for _, f := range files {
			w.contents[sha256.Sum256([]byte(f.Content))] = f.Content
		}
		lowers = append([]string{filepath.Join(dir, fmt.Sprint(i))}, lowers...)
		w.Lower, w.first = tree.Lower(i), make(map[[2]int]string)
		root, err := w.Root(context.Background())
		if err != nil {
			return nil, err
		}
		if err := w.write(lowers[0], root); err != nil {
			return nil, err
		}
	}
	merged := filepath.Join(dir, "merged")
	for _, name := range []string{merged, lowers[len(lowers)-1]} {
		if err := os.Mkdir(name, 0o755); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lowers, ":")); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	lines, err = testlayer.ReadTree(merged)
	return withoutLinks(lines), err
}

// A writer writes a Lower to a disk.
type writer struct {
	*image.Lower
	contents map[[sha256.Size]byte]string
	first    map[[2]int]string
}

func (w *writer) write(name string, f *image.File) error {
	ino := f.Inode()
	id := [2]int{f.Layer, int(f.Node)}
	links, err := w.Links(context.Background(), f)
	switch {
	case err != nil:
		return err
	case f.IsDir():
		err = w.directory(name, f)
	case links > 1 && w.first[id] != "":
		return os.Link(w.first[id], name)
	case ino.Kind == layer.Whiteout:
		return unix.Mknod(name, unix.S_IFCHR, 0)
	case ino.Kind == layer.Symlink:
		err = os.Symlink(ino.Link(), name)
	case ino.Kind == layer.File:
		err = os.WriteFile(name, []byte(w.contents[ino.Digest]), 0o600)
	default:
		err = unix.Mknod(name, types[ino.Kind], int(unix.Mkdev(ino.Device())))
	}
	w.first[id] = name
	return errors.Join(err, attributes(name, f))
}

func attributes(name string, f *image.File) error {
	ino := f.Inode()
	err := os.Lchown(name, int(ino.UID), int(ino.GID))
	if ino.Kind != layer.Symlink {
		err = errors.Join(err, unix.Chmod(name, ino.Mode))
	}
	for _, x := range ino.Xattrs() {
		err = errors.Join(err, unix.Lsetxattr(name, x.Name, []byte(x.Value), 0))
	}
	if f.Opaque() {
		err = errors.Join(err, unix.Lsetxattr(name, "trusted.overlay.opaque", []byte("y"), 0))
	}
	at := unix.NsecToTimespec(ino.ModTime().UnixNano())
	return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

// directory writes what is in a directory, and holds what Lookup says against it.
func (w *writer) directory(name string, f *image.File) error {
	if err := os.Mkdir(name, 0o755); err != nil {
		return err
	}
	items, err := w.List(context.Background(), f)
	if err != nil {
		return err
	}
	for _, item := range items {
		child, err := w.Lookup(context.Background(), f, item.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(name, item.Name), err)
		}
		if k := child.Inode().Kind; k != item.Kind || k != layer.Dir && (child.Layer != item.Layer || child.Node != item.Node) {
			return fmt.Errorf("%s: List has %+v, Lookup %+v", path.Join(name, item.Name), item, child)
		}
		if err := w.write(filepath.Join(name, item.Name), child); err != nil {
			return err
		}
	}
	return nil
}

var (
	linkCount = regexp.MustCompile(` \d+ links$`)
	firstName = regexp.MustCompile(` is (\S+)`)
)

// withoutLinks are lines without how many names a file has: only which others it has
// that are to be seen.
func withoutLinks(lines map[string]string) map[string]string {
	of := make(map[string]int)
	for _, line := range lines {
		of[firstName.FindString(line)]++
	}
	less := make(map[string]string)
	for name, line := range lines {
		line = linkCount.ReplaceAllString(line, "")
		if of[firstName.FindString(line)] == 1 {
			line = firstName.ReplaceAllString(line, "")
		}
		less[name] = line
	}
	return less
}

// TestLower has what is to be seen of a layer by itself.
func TestLower(t *testing.T) {
	lowest := "a=1 c=1 d/ d/e=1 l@d x=1 y#x"
	for _, c := range []struct{ layer, want string }{
		{".wh.a .wh.b", "a?"},
		{"no/.wh.b d/.wh.e d/.wh.f", "d d/e?"},
		{"d/ d/.wh..wh..opq d/.wh.e d/f=2", "d! d/f"},
		{".wh..wh..opq c=2 d/g=2", "a? c d! d/g l? x? y?"},
		{"l/f=2 l/.wh.e", "d d/e? d/f"},
		{"z#x", "x*3 y*3 z*3"},
		{"z#x .wh.y n#no c#no", "c? x*2 y? z*2"},
		{"e/ e/f=2 e/g#e/f", "e e/f*2 e/g*2"},
	} {
		lower := treeOf(t, lowest, c.layer).Lower(1)
		var names []string
		var walk func(dir *image.File, in string)
		walk = func(dir *image.File, in string) {
			items, err := lower.List(context.Background(), dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				f, err := lower.Lookup(context.Background(), dir, item.Name)
				if err != nil {
					t.Fatal(err)
				}
				name := path.Join(in, item.Name)
				if f.Opaque() {
					name += "!"
				}
				if f.Inode().Kind == layer.Whiteout {
					name += "?"
				}
				if n, err := lower.Links(context.Background(), f); err != nil || n != 1 {
					name += fmt.Sprint("*", n)
				}
				names = append(names, name)
				if f.IsDir() {
					walk(f, path.Join(in, item.Name))
				}
			}
		}
		walk(nil, "")
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%q has %q, want %q", c.layer, got, c.want)
		}
	}
}

// TestLowerWaits asks for the layers below no earlier than it must.
func TestLowerWaits(t *testing.T) {
	for _, c := range []struct {
		layer, name string
		want        error
	}{
		{"a=1 .wh.b", "a", nil},
		{"a=1 .wh.b", "c", iofs.ErrNotExist},
		{"a=1 .wh.b", "b", errLate},
		{"d/ d/f=1", "d/f", nil},
		{"d/ d/.wh..wh..opq d/.wh.f", "d/f", iofs.ErrNotExist},
		{"a=1", "a/b", syscall.ENOTDIR},
		{"d/f=1", "d", errLate},
		{"a=1 b#c", "a", errLate},
	} {
		ix := made(t, testlayer.Tar(t, testlayer.Words(c.layer)...))
		tree := image.NewTree(2, func(_ context.Context, i int) (*layer.Index, error) {
			if i == 0 {
				return nil, errLate
			}
			return ix, nil
		})
		if _, err := lookup(tree.Lower(1), c.name); !errors.Is(err, c.want) {
			t.Errorf("of %q, Lookup(%s) = %v, want %v", c.layer, c.name, err, c.want)
		}
	}
}
