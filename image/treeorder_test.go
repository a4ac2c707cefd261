package image_test

import (
	"archive/tar"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"distfs/internal/testlayer"
)

// TestTreeRefusesOrder refuses layers of which an index cannot tell what hides what:
// unpacked in the order in which they are they have files that a guess would hide.
func TestTreeRefusesOrder(t *testing.T) {
	for _, layers := range [][]string{
		{"b/ b/f=1 a@b", "a/evil=2 a=3"},
		{"b/ b/f=1 a@b", "a/evil=2 a/"},
		{"b/ b/f=1 a@b", "a/f=2 b/f=3"},
		{"b/ b/f=1 a@b", "a/s@x b/s@y"},
		{"b/ b/f=1 a@b", "a/f=2 b/f=2 b/h#b/f"},
		{"b/ b/f=1 a@b", "a/evil=2 a/ a/x=3"},
		{"b/ b/f=1 a@b", "a/evil=2 a@c"},
		{"b/ b/f=1 a@b", "a/evil=2 .wh.a"},
		{"d/ d/a@/b b/", "d/ d/a/evil=2 d=3"},
		{"d/ d/a@/b b/", "d/a/evil=2 .wh.d"},
		{"d/ d/a@/b b/", "d/a/evil=2 d/.wh..wh..opq"},
		{"b/ b/c/ b/c/f=1 a@b/c", "a/x=2 b=evil"},
		{"b/ b/c/ b/c/f=1 a@b/c", "a/x=2 b/c@/tmp"},
		{"b/ b/c/ b/c/f=1 a@b/c", "b/c/x=evil a/x=2"},
		{"b@c a@b/x c/ c/x/", "a/f=evil .wh.b"},
		{"b@/", "b/b/b=1 b/b/b=2"},
		{"l@b b/ b/f=1", "h#l h/evil=2"},
		{"l@b b/ b/f=1", "h#l h/.wh.f"},
		{"b/ b/f=1 a@b", "b/f=evil h#a/f"},
		{"b/ b/f=1 a@b", "a/f=evil h#b/f"},
		{"b/ b/f=1 a@b", "b/g=evil h#a/g"},
		{"b/ b/f=1 a@b", "a/g=evil b/h#b/g"},
	} {
		if got, err := list(treeOf(t, layers...)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("the tree of %q is %v, error %v, want %v", layers, got, err, syscall.EINVAL)
		}
	}
}

// TestTreeOfAnyOrder has layers whose order is unusual, and does not matter or is told by
// their indexes: none is refused, and the tree is what unpacking makes.
func TestTreeOfAnyOrder(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	for _, layers := range [][]string{
		{"a=1 a=2"},
		{"a=1", "a=2 a=3"},
		{"d/ d/a=1 d/"},
		{"d/ d/a=1", "d/b=2 d/ d/b=3 d/"},
		{"d/a=1 d/", "d/a=2 d/"},
		{"a=1", "a=2 .wh.a"},
		{"a=1", ".wh.a a=2"},
		{"d/ d/a=1", "d/ d/a=2 d/.wh.a"},
		{"d/ d/a=1", "d/.wh.a d/ d/a=2"},
		{"d/ d/a=1", ".wh.d d/ d/b=2"},
		{"d/ d/a=1", "d/ d/b=2 .wh.d"},
		{"d/ d/a=1", "d/ d/b=2 d/.wh..wh..opq"},
		{"d/ d/a=1", "d/.wh..wh..opq d/ d/b=2"},
		{"b/ b/f=1 a@b", "a/g=2 a/g=3"},
		{"b/ b/f=1 a@b", "a/g=2 a/.wh.f"},
		{"b/ b/f=1 a@b", "a/.wh.f a/g=2"},
		{"b/ b/f=1 a@b", "a/g=2 b/h=3 b/"},
		{"b/ b/f=1 a@b", "a/d/ b/d/"},
		{"b/ b/f=1 a@b", "a/d/x=1 b/d/ b/d/y=2"},
		{"b/ b/f=1 a@b", "a/g=2 .wh.h h=3"},
		{"b/ b/f=1 a@b", ".wh.a a/ a/g=2"},
		{"b/ b/f=1 a@b", "a/ a/g=2 a/"},
		{"b/ b/f=1 a@b", "a/f=2 b/f=2"},
		{"b/ b/f=1 a@b", "a/s@x b/s@x"},
		{"b/ b/f=1 a@b", "a/.wh.f b/.wh.f"},
	} {
		var files [][]testlayer.File
		for _, words := range layers {
			files = append(files, testlayer.Words(words))
		}
		want, err := unpack(t, filepath.Join(t.TempDir(), "tree"), tars(t, files)...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := list(treeOf(t, layers...))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("the tree of %q: %v, (want, got):\n%s", layers, err, diff)
		}
	}
}

// TestTreeInAnyOrder draws layers with links to directories in any order: their tree
// is what unpacking them makes, or refused because an index does not tell the order.
// Directories are not compared: which attributes one has that is hidden after the layer
// has put something into it, and whether an empty one is left, is another matter.
func TestTreeInAnyOrder(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	dir, compared, refused := t.TempDir(), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d := &drawer{T: rt, links: true}
		var layers [][]testlayer.File
		for d.layer = range rapid.IntRange(2, 3).Draw(rt, "layers") {
			layers = append(layers, d.all("entries", 7, func() testlayer.File {
				if rapid.IntRange(0, 4).Draw(rt, "hides") == 0 {
					return d.hide()
				}
				f := d.entry()
				if f.Typeflag == tar.TypeLink && f.Linkname == f.Name { // it counts as the layer's own, in a directory
					f.Typeflag, f.Linkname = tar.TypeFifo, ""
				}
				return f
			}))
		}
		want, err := unpack(t, filepath.Join(dir, "tree"), tars(t, layers)...)
		if err != nil {
			return
		}
		all := indexes(t, rt, layers)
		got, err := list(tree(all...))
		if errors.Is(err, syscall.EINVAL) {
			refused++
			return
		}
		if err != nil {
			rt.Fatalf("List: %v%s", err, describeFiles(layers))
		}
		if diff := cmp.Diff(withoutDirs(want), withoutDirs(got)); diff != "" {
			rt.Fatalf("tree (want, got):\n%s%s", diff, describeFiles(layers))
		}
		compared++
	})
	t.Logf("%d trees were compared, %d refused", compared, refused)
}

func withoutDirs(tree map[string]string) map[string]string {
	for name, line := range tree {
		if strings.HasPrefix(line, "04") {
			delete(tree, name)
		}
	}
	return tree
}
