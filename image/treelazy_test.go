package image_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/image"
	"distfs/internal/testlayer"
	"distfs/layer"
)

// A finder is a Tree or a Lower.
type finder interface {
	Lookup(ctx context.Context, dir *image.File, name string) (*image.File, error)
}

// lookup looks a path up, name by name.
func lookup(t finder, name string) (*image.File, error) {
	var f *image.File
	for part := range strings.SplitSeq(name, "/") {
		var err error
		if f, err = t.Lookup(context.Background(), f, part); err != nil {
			return nil, err
		}
	}
	return f, nil
}

var errLate = errors.New("the index is not made yet")

// TestTreeWaits answers without the lowest layer what the ones above it tell.
func TestTreeWaits(t *testing.T) {
	for _, c := range []struct {
		layers string // above the lowest, in their order, by bars
		name   string
		want   error
	}{
		{"a=1", "a", nil},
		{"a=1", "b", errLate},
		{"d/ d/a=1", "d/a", nil},
		{"d/ d/a=1", "d/b", errLate},
		{"d/|d/a=2", "d/a", nil},
		{"d/a=1", "d", errLate},     // it has no attributes of its own, and may be a link
		{"x/f=1 a=1", "a", errLate}, // if x is a link to the root, this is not all
		{"d/ d/b=2|d/a=1", "d/b", nil},
		{"d/ d/b=2|d/a=1", "d/c", errLate},
		{"d/ d/b=2|d/.wh.b", "d/b", iofs.ErrNotExist},
		{".wh..wh..opq d/a=1", "d/a", nil},
		{".wh.a", "a", iofs.ErrNotExist},
		{".wh.a d/", "a", iofs.ErrNotExist},
		{"d/ d/.wh..wh..opq", "d/b", iofs.ErrNotExist},
		{"d/ d/.wh..wh..opq", "e", errLate},
		{".wh.d d/|d/", "d/b", iofs.ErrNotExist},
		{"a=1|d/|.wh.d", "d", iofs.ErrNotExist},
		{"d=1|d/ d/e/", "d/e/f", iofs.ErrNotExist},
		{"d=1|d/e/f=2", "d/e", nil},
		{"a=1|b#a", "b", nil},
		{"a=1|b#c", "b", errLate},
		{"a=1|b#c", "a", nil},
	} {
		above := strings.Split(c.layers, "|")
		var all []*layer.Index
		for _, words := range above {
			all = append(all, made(t, testlayer.Tar(t, testlayer.Words(words)...)))
		}
		tree := image.NewTree(len(all)+1, func(_ context.Context, i int) (*layer.Index, error) {
			if i == 0 {
				return nil, errLate
			}
			return all[i-1], nil
		})
		if _, err := lookup(tree, c.name); !errors.Is(err, c.want) {
			t.Errorf("of %q, Lookup(%s) = %v, want %v", c.layers, c.name, err, c.want)
		}
	}
}

// TestTreeAsksAgain does not keep an index's error.
func TestTreeAsksAgain(t *testing.T) {
	asked, ix := 0, made(t, testlayer.Tar(t, testlayer.Words("a=1")...))
	tree := image.NewTree(1, func(context.Context, int) (*layer.Index, error) {
		if asked++; asked == 1 {
			return nil, errLate
		}
		return ix, nil
	})
	if _, err := tree.Root(context.Background()); !errors.Is(err, errLate) {
		t.Errorf("Root = %v, want %v", err, errLate)
	}
	for range 2 {
		if _, err := lookup(tree, "a"); err != nil || asked != 2 {
			t.Errorf("Lookup = %v, the index asked for %d times, want no error and 2", err, asked)
		}
	}
}

// TestTreeTogether has many walk one tree from its beginning.
func TestTreeTogether(t *testing.T) {
	layers := []string{"d/ d/f=1 e@d g=1 h#g", "e/x/f=2 i#h", "d/x/g=3 .wh.g", "d/x/h#i e/y=4"}
	want, err := list(treeOf(t, layers...))
	if err != nil {
		t.Fatal(err)
	}
	tree := treeOf(t, layers...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := list(tree)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the tree is %v, %v, want %v", got, err, want)
			}
		})
	}
	wg.Wait()
}

// TestTreeErrors looks up what is not there.
func TestTreeErrors(t *testing.T) {
	tree := treeOf(t, "a=1 d/ loop@loop/x deep@"+strings.Repeat("n/", layer.MaxDepth), "b#no c#d e#a/x f#loop/x g#deep/x")
	for _, name := range []string{"b", "c", "e", "f", "g"} {
		_, err := lookup(tree, name)
		if link, is := errors.AsType[*image.LinkError](err); !is || link.Layer != 1 || link.Path != name || !errors.Is(err, syscall.EIO) {
			t.Errorf("Lookup(%s) = %v, want a LinkError", name, err)
		}
	}
	if _, err := lookup(tree, "a/x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Lookup(a/x) = %v, want ENOTDIR", err)
	}
	if items, err := tree.List(context.Background(), nil); err != nil || len(items) != 9 {
		t.Errorf("List = %v, %v, want 9 names", items, err)
	}
	for _, c := range []struct {
		layers []string
		want   error
	}{
		{[]string{"l@l", "l/f=1"}, syscall.ELOOP},
		{[]string{"l@m/x m@l/x", "l/f=1"}, syscall.ELOOP},
		{[]string{"l@" + strings.Repeat("n/", layer.MaxDepth+1), "l/f=1"}, syscall.ENAMETOOLONG},
	} {
		if _, err := treeOf(t, c.layers...).Root(context.Background()); !errors.Is(err, c.want) {
			t.Errorf("Root of %.60q = %v, want %v", c.layers, err, c.want)
		}
	}
	chain, through := "d/", ""
	for i := range 200 {
		chain += fmt.Sprintf(" c%d@%sc%d x%d@c0", i, strings.Repeat("./", 1900), i+1, i)
		through += fmt.Sprintf(" x%d/f=1", i)
	}
	if _, err := treeOf(t, chain+" c200@d", through).Root(context.Background()); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Root of links to links = %v, want EFBIG", err)
	}
	if got, err := list(image.NewTree(0, nil)); err != nil || len(got) != 1 {
		t.Errorf("no layers make %v, %v, want a root", got, err)
	}
}

// TestTreeOfManyLayers has ten thousand of them, each of which is in the way of
// every answer.
func TestTreeOfManyLayers(t *testing.T) {
	const many, lot = 10_000, 3_000 // where the time goes with the square
	for _, c := range []struct {
		name, words, lowest, look string
		layers                    int
	}{
		{"a directory in each", "d/ d/e/ d/e/%=1", "d/ d/e/ d/e/f=1", "d/e/f", many},
		{"without an entry", "d/e/%=1", "d/ d/e/ d/e/f=1", "d/e/f", many},
		{"below a link", "l/%=1", "d/ d/f=1 l@d", "d/f", lot},
		{"below one of its own", "%/f=1", "f=1", "f", lot},
		{"hidden in each", "d/e/.wh.%", "d/ d/e/ d/e/f=1", "d/e/f", many},
		{"a hard link to the last", "%#!", "0=1", "1", lot},
	} {
		t.Run(c.name, func(t *testing.T) {
			template := made(t, testlayer.Tar(t, testlayer.Words(c.words)...))
			all := []*layer.Index{made(t, testlayer.Tar(t, testlayer.Words(c.lowest)...))}
			for i := 1; i < c.layers; i++ {
				all = append(all, named(template, i))
			}
			begun := time.Now()
			tree := tree(all...)
			f, err := lookup(tree, c.look)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tree.Links(context.Background(), f); err != nil {
				t.Fatal(err)
			}
			if _, err := tree.Root(context.Background()); err != nil {
				t.Fatal(err)
			}
			dir := (*image.File)(nil)
			if above := path.Dir(c.look); above != "." {
				if dir, err = lookup(tree, above); err != nil {
					t.Fatal(err)
				}
			}
			items, err := tree.List(context.Background(), dir)
			want := c.layers
			if strings.Contains(c.words, ".wh.") {
				want = 1
			}
			if err != nil || len(items) != want {
				t.Errorf("List = %d names, %v, want %d", len(items), err, want)
			}
			if _, err := tree.Lower(c.layers-1).List(context.Background(), nil); err != nil {
				t.Errorf("List of the uppermost: %v", err)
			}
			t.Logf("%d layers: %v", c.layers, time.Since(begun))
		})
	}
}

// named returns an index with % in its names and targets replaced by i, and ! by i-1.
func named(ix *layer.Index, i int) *layer.Index {
	r := strings.NewReplacer("%", strconv.Itoa(i), "!", strconv.Itoa(i-1))
	other := *ix
	other.Nodes, other.Inodes = slices.Clone(ix.Nodes), ix.Inodes.Clone()
	for n := range other.Nodes {
		other.Nodes[n].Name = r.Replace(other.Nodes[n].Name)
	}
	for _, ino := range other.Inodes.All() {
		if link := ino.Link(); link != "" {
			ino.Extra = &layer.Extra{Link: r.Replace(link)}
		}
	}
	return &other
}
