package layer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/google/go-cmp/cmp"
)

// tell tells all that an index's tree has but attributes: of a directory whether it
// is implied (i), a ghost (g) or opaque (o).
func tell(ix *layer.Index) string {
	var all []string
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		s := ix.Path(uint32(n))
		switch ino.Kind {
		case layer.Dir:
			s += "/"
			for _, flag := range []struct {
				is   bool
				name string
			}{{ino.Implied, "i"}, {ino.Ghost, "g"}, {ino.Opaque, "o"}} {
				if flag.is {
					s += flag.name
				}
			}
		case layer.Symlink:
			s += "@" + ino.Link()
		case layer.Hardlink:
			s += "#" + ino.Link()
		case layer.Whiteout:
			s = "-" + s
		case layer.File:
			s += fmt.Sprint("=", ino.Links)
		}
		all = append(all, s)
	}
	return strings.Join(all[1:], " ")
}

// TestTree makes the tree of a layer's entries.
func TestTree(t *testing.T) {
	reg, dir, symlink, link := testlayer.Reg, testlayer.Dir, testlayer.Symlink, testlayer.Link
	for _, c := range []struct {
		name  string
		files []testlayer.File
		want  string
	}{
		{"a missing parent", []testlayer.File{reg("a/b", "")}, "a/i a/b=1"},
		{"a directory in the place of a file", []testlayer.File{reg("a", ""), reg("a/b", "")}, "a/o a/b=1"},
		{"in the place of a whiteout", []testlayer.File{reg(".wh.a", ""), reg("a/b", "")}, "a/o a/b=1"},
		{"a whiteout of what only hides", []testlayer.File{reg("a/.wh.b", ""), reg(".wh.a", "")}, "-a"},
		{"a whiteout of a directory", []testlayer.File{reg("a/b", ""), reg(".wh.a", "")}, "a/io a/b=1"},
		{"a whiteout where there is no directory", []testlayer.File{reg("a", ""), reg("a/.wh.b", "")}, "a=1"},
		{"opaque alone", []testlayer.File{reg("a/b/.wh..wh..opq", "")}, "a/ig a/b/igo"},
		{"a link that leads out of what is not there", []testlayer.File{symlink("a", "no/../b"), reg("a/c", "")}, "a@no/../b b/i b/c=1"},
		{"a hard link", []testlayer.File{reg("a", ""), link("b", "a")}, "a=2 b=2"},
		{"a hard link to below", []testlayer.File{dir("d"), link("b", "d/a")}, "b#d/a d/"},
		{"a hard link to below, by a link", []testlayer.File{symlink("l", "d/e"), link("b", "l/a")}, "b#d/e/a l@d/e"},
		{"a hard link to itself, below", []testlayer.File{link("b", "b")}, ""},
		{"a hard link to what may be a link below", []testlayer.File{reg("a/b", ""), link("c", "a")}, "a/i c#a a/b=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := tell(makeIndex(t, testlayer.Tar(t, c.files...))); got != c.want {
				t.Errorf("the tree is %q, want %q", got, c.want)
			}
		})
	}
}

// TestTreeOfMany makes the trees of layers of many entries, in any order, a third of
// which take the place of others, and keeps them.
func TestTreeOfMany(t *testing.T) {
	for _, n := range []int{511, 512, 513, 1024, 5000} {
		want := make(map[string]string)
		var files []testlayer.File
		for i, k := range rand.Perm(n + n/2) {
			name := fmt.Sprintf("d%d/%d", k%7, k%n)
			content := strings.Repeat("x", i%100)
			files, want[name] = append(files, testlayer.Reg(name, content)), fmt.Sprint(i%100)
			if i%10 == 0 {
				files = append(files, testlayer.Link(name+" too", name))
				want[name+" too"] = want[name]
			}
		}
		ix := makeIndex(t, testlayer.Tar(t, files...))
		kept, err := layer.DecodeIndex(encode(t, ix))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ix, kept); diff != "" {
			t.Errorf("%d entries are kept as others (want, got):\n%s", n, diff)
		}
		got := make(map[string]string)
		for i := range ix.Nodes {
			if ino := ix.Inode(uint32(i)); ino.Kind == layer.File {
				got[ix.Path(uint32(i))] = fmt.Sprint(ino.Size)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d entries (want, got):\n%s", n, diff)
		}
	}
}
