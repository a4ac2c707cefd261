package image_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"distfs/image"
	"distfs/internal/testlayer"
	"distfs/layer"
	"distfs/transfer"
)

func made(tb testing.TB, l []byte) *layer.Index {
	tb.Helper()
	ix, err := layer.MakeIndex(context.Background(), bytes.NewReader(l), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ix
}

// tree returns the tree of indexes.
func tree(all ...*layer.Index) *image.Tree {
	return image.NewTree(len(all), func(_ context.Context, i int) (*layer.Index, error) { return all[i], nil })
}

// treeOf returns the tree of layers given by words.
func treeOf(tb testing.TB, layers ...string) *image.Tree {
	tb.Helper()
	var all []*layer.Index
	for _, words := range layers {
		all = append(all, made(tb, testlayer.Tar(tb, testlayer.Words(words)...)))
	}
	return tree(all...)
}

var types = map[layer.Kind]uint32{
	layer.File: unix.S_IFREG, layer.Dir: unix.S_IFDIR, layer.Symlink: unix.S_IFLNK,
	layer.CharDevice: unix.S_IFCHR, layer.BlockDevice: unix.S_IFBLK, layer.Fifo: unix.S_IFIFO,
}

// A lister tells of a Tree what testlayer.Tree tells of a directory.
type lister struct {
	*image.Tree
	lines map[string]string
	first map[[2]int]string
}

func list(t *image.Tree) (map[string]string, error) {
	root, err := t.Root(context.Background())
	if err != nil {
		return nil, err
	}
	l := lister{t, make(map[string]string), make(map[[2]int]string)}
	return l.lines, l.walk(root, ".")
}

func (l *lister) walk(f *image.File, name string) error {
	ino := f.Inode()
	line := fmt.Sprintf("%06o %d:%d %d.%09d", types[ino.Kind]|ino.Mode, ino.UID, ino.GID, ino.Seconds, ino.Nanoseconds)
	switch ino.Kind {
	case layer.Symlink:
		line += " -> " + ino.Link()
	case layer.File:
		line += fmt.Sprintf(" %d bytes %.4x", ino.Size, ino.Digest)
	case layer.CharDevice, layer.BlockDevice:
		major, minor := ino.Device()
		line += fmt.Sprintf(" %d:%d", major, minor)
	}
	links, err := l.Links(context.Background(), f)
	if err != nil {
		return err
	}
	if links > 1 && ino.Kind != layer.Symlink {
		id := [2]int{f.Layer, int(f.Node)}
		if l.first[id] == "" {
			l.first[id] = name
		}
		line += " is " + l.first[id]
	}
	for _, x := range ino.Xattrs() {
		line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
	}
	l.lines[name] = line
	if !f.IsDir() {
		l.lines[name] += fmt.Sprintf(" %d links", links)
		return nil
	}
	items, err := l.List(context.Background(), f)
	if err != nil {
		return err
	}
	for _, item := range items {
		child, err := l.Lookup(context.Background(), f, item.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(name, item.Name), err)
		}
		if k := child.Inode().Kind; k != item.Kind || k != layer.Dir && (child.Layer != item.Layer || child.Node != item.Node) {
			return fmt.Errorf("%s: List has %+v, Lookup %+v", path.Join(name, item.Name), item, child)
		}
		if err := l.walk(child, path.Join(name, item.Name)); err != nil {
			return err
		}
	}
	return nil
}

// unpack returns what testlayer.Tree tells of the layers unpacked one after the
// other.
func unpack(tb testing.TB, dir string, layers ...[]byte) (map[string]string, error) {
	tb.Helper()
	u, err := transfer.NewUnpacker(dir, &transfer.UnpackOptions{MaxBytes: 1 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer u.Close()
	for i, l := range layers {
		if err := u.Layer(context.Background(), bytes.NewReader(l)); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	lines := testlayer.Tree(tb, dir)
	for name := range lines {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			tb.Fatal(err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			lines[name] += fmt.Sprintf(" %d links", st.Nlink)
		}
	}
	return lines, nil
}

func needRoot(tb testing.TB) {
	tb.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") != "":
		tb.Fatal("not root: no owners and no devices")
	default:
		tb.Skip("not root: no owners and no devices")
	}
}

// TestTree has one case for each way in which layers meet; unpacking says what is
// right. Of a case with a name, that is what is there.
func TestTree(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	for _, c := range []struct {
		name   string
		layers []string
		want   string // all names
	}{
		{"a whiteout", []string{"a=1 b=1 d/ d/f=1", ".wh.a .wh.d"}, "b"},
		{"a whiteout of what the layer makes again", []string{"a=1 d/ d/f=1", ".wh.a a=2 .wh.d d/ d/g=2"}, "a d d/g"},
		{"a whiteout in a directory without an entry", []string{"d/ d/f=1 d/g=1", "d/.wh.f no/.wh.f"}, "d d/g"},
		{"the same, where a file is", []string{"d=1", "d/.wh.f"}, "d"},
		{"a whiteout between", []string{"d/ d/f=1", ".wh.d", "d/g=1"}, "d d/g"},
		{"opaque with content", []string{"d/ d/f=1 d/e/ d/e/f=1", "d/ d/.wh..wh..opq d/g=2", "d/h=3"}, "d d/g d/h"},
		{"opaque without an entry", []string{"d/ d/f=1", "d/.wh..wh..opq d/g=2 no/.wh..wh..opq"}, "d d/g"},
		{"an opaque root", []string{"a=1", ".wh..wh..opq b=2"}, "b"},
		{"a file over a directory", []string{"d/ d/f=1", "d=2", "d/ d/g=3"}, "d d/g"},
		{"a directory over a file", []string{"d=1", "d/g=2"}, "d d/g"},
		{"a directory over a link", []string{"e/ e/f=1 d@e", "d/ d/g=2"}, "d d/g e e/f"},
		{"names below a link", []string{"e/ e/f=1 d@e", "d/g=2 d/.wh.f"}, "d e e/g"},
		{"below a link to a link", []string{"x/ x/e/ d@x/m x/m@../x/./e", "d/g=2"}, "d x x/e x/e/g x/m"},
		{"below a link that a moved name meets", []string{"x/ x/l@/y y/ d@x", "d/l/f=2"}, "d x x/l y y/f"},
		{"below a link to nowhere", []string{"run@/var/run", "run/d/f=2 run/.wh.g"}, "run var var/run var/run/d var/run/d/f"},
		{"below a link to a file", []string{"l@f f=1", "l/g=2"}, "f f/g l"},
		{"hidden below a link to nowhere", []string{"run@/var/run", "run/d/.wh.f"}, "run"},
		{"below a link to the root", []string{"l@/ a=1", "l/b=2 l/.wh.a"}, "b l"},
		{"opaque by a link to the root", []string{"l@/ a=1", "l/.wh..wh..opq l/b=2"}, "b"},
		{"below a link and beside it", []string{"d/ l@d", "l/e/f=2 d/e/g=2 d/h=2"}, "d d/e d/e/f d/e/g d/h l"},
		{"below a link to a directory of the layer's own", []string{"l@d", "d/ d/g=2 l/f=2"}, "d d/f d/g l"},
		{"below a hard link to a link", []string{"d/ l@d", "m#l", "m/f=3"}, "d d/f l m"},
		{"a hard link to below", []string{"d/ d/f=1", "g#d/f"}, "d d/f g"},
		{"a hard link to a hard link", []string{"a=1", "b#a", "c#b", "d#c"}, "a b c d"},
		{"a hard link by a link", []string{"d/ d/f=1 l@d", "g#l/f"}, "d d/f g l"},
		{"a hard link by a link of the layer's own", []string{"d/ d/f=1", "l@d g#l/f"}, "d d/f g l"},
		{"a hard link to what the layer replaces", []string{"a=1", "b#a a=2"}, "a b"},
		{"a hard link to a link", []string{"a@b", "c#a"}, "a c"},
		{"a hidden name of a file", []string{"a=1 b#a c#a", ".wh.a", "b=3"}, "b c"},
		{"a hidden hard link to below", []string{"a=1", "b#a c#a", ".wh.b"}, "a c"},
		{"a name that a moved file replaces", []string{"d/ d/f=1 d/g#d/f l@d", "l/f=2"}, "d d/f d/g l"},
		{"a hard link below a link", []string{"d/ d/f=1 l@d", "l/g#l/f"}, "d d/f d/g l"},
		{"a hard link to one of several names", []string{"d/ d/f=1 d/g#d/f e/ e/h#d/f", "i#d/f e/.wh.h", "j#i"}, "d d/f d/g e i j"},
		{"an opaque root of directories", []string{"a=1 d/ d/f=1 e/", ".wh..wh..opq d/g=2", "d/h=3"}, "d d/g d/h"},
		{"hidden where nothing is", []string{"a=1 d/", "d/.wh.f e/ e/.wh.g .wh.h", ".wh.a", ".wh.a"}, "d e"},
		{"opaque, and hidden in it", []string{"d/ d/f=1 d/g=1", "d/ d/.wh.f d/.wh..wh..opq"}, "d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files [][]testlayer.File
			for _, words := range c.layers {
				files = append(files, testlayer.Words(words))
			}
			layers := tars(t, files)
			want, err := unpack(t, filepath.Join(t.TempDir(), "tree"), layers...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := list(treeOf(t, c.layers...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tree (want, got):\n%s", diff)
			}
			if names := strings.Join(slices.Sorted(maps.Keys(got))[1:], " "); names != c.want {
				t.Errorf("the names are %q, want %q", names, c.want)
			}
			over, err := overlay(t, treeOf(t, c.layers...), files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withoutLinks(want), over); diff != "" {
				t.Errorf("overlay (want, got):\n%s", diff)
			}
		})
	}
}
