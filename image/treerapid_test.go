package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// A drawer draws layers of few names, so that much meets.
type drawer struct {
	*rapid.T
	layer int
	links bool // to directories
}

func (d *drawer) path() string {
	parts := []string{"a", "b", "c"}
	var all []string
	for range rapid.IntRange(0, 2).Draw(d.T, "depth") {
		all = append(all, rapid.SampledFrom(parts).Draw(d.T, "dir"))
	}
	return path.Join(append(all, rapid.SampledFrom(append(parts, "f", "g")).Draw(d.T, "name"))...)
}

// entry draws an entry. What it says of a file is the same for all of a name in one
// layer.
func (d *drawer) entry() testlayer.File {
	f := testlayer.File{Header: tar.Header{Name: d.path(), Mode: 0o600 | int64(d.layer), Uid: d.layer, ModTime: time.Unix(int64(d.layer), 5)}}
	f.Gid = int(path.Base(f.Name)[0])
	switch k := rapid.IntRange(0, 15).Draw(d.T, "kind"); {
	case k < 4:
		f.Typeflag, f.Content = tar.TypeReg, fmt.Sprint(d.layer, path.Base(f.Name))
	case k < 7:
		f.Typeflag = tar.TypeDir
		f.PAXRecords = map[string]string{"SCHILY.xattr.user.x": fmt.Sprint(d.layer)}
	case k < 9 && d.links:
		f.Typeflag, f.Linkname = tar.TypeSymlink, rapid.SampledFrom([]string{"a", "b", "c/a", "/b", "/", "../c", "/a/b/c", "c/.", "new/dir"}).Draw(d.T, "target")
	case k == 9 || k < 9 && !d.links:
		f.Typeflag, f.Linkname, f.Name = tar.TypeSymlink, "nowhere", f.Name+"/s"
	case k == 10:
		f.Typeflag, f.Devmajor, f.Devminor = tar.TypeChar, 3, int64(d.layer)
	case k == 11:
		f.Typeflag = tar.TypeFifo
	default:
		f.Typeflag, f.Linkname = tar.TypeLink, d.path()
	}
	return f
}

// hide draws a whiteout or what makes a directory opaque.
func (d *drawer) hide() testlayer.File {
	name := d.path()
	if rapid.IntRange(0, 11).Draw(d.T, "root") == 0 {
		name = "."
	}
	if name == "." || rapid.Bool().Draw(d.T, "opaque") {
		return testlayer.Reg(name+"/.wh..wh..opq", "")
	}
	return testlayer.Reg(path.Join(path.Dir(name), ".wh."+path.Base(name)), "")
}

func (d *drawer) all(what string, most int, one func() testlayer.File) []testlayer.File {
	all := make([]testlayer.File, rapid.IntRange(0, most).Draw(d.T, what))
	for i := range all {
		all[i] = one()
	}
	return all
}

func describeFiles(layers [][]testlayer.File) string {
	var b strings.Builder
	for i, l := range layers {
		fmt.Fprintf(&b, "\n%d:", i)
		for _, f := range l {
			fmt.Fprintf(&b, " %s%s", f.Name, map[byte]string{tar.TypeDir: "/", tar.TypeLink: "#" + f.Linkname, tar.TypeSymlink: "@" + f.Linkname, tar.TypeReg: "=", tar.TypeFifo: "|", tar.TypeChar: "!"}[f.Typeflag])
		}
	}
	return b.String()
}

// TestTreeIsUnpacked draws layers without links to directories, in any order but
// that what they hide comes first, and holds their tree against what unpacking them
// makes.
func TestTreeIsUnpacked(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	dir, compared := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		d := &drawer{T: rt}
		var layers [][]testlayer.File
		for d.layer = range rapid.IntRange(1, 4).Draw(rt, "layers") {
			layers = append(layers, append(d.all("hidden", 3, d.hide), d.all("entries", 8, d.entry)...))
		}
		if sameAsUnpacked(t, rt, dir, layers, false) {
			compared++
		}
	})
	t.Logf("%d trees were compared", compared)
}

// TestTreeFollowsLinks draws layers with links to directories. An index does not
// tell in which order a layer has what its links lead together: where unpacking
// the same in another order makes something else, nothing is compared.
func TestTreeFollowsLinks(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	dir, compared := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		d := &drawer{T: rt, links: true}
		var layers, other [][]testlayer.File
		for d.layer = range rapid.IntRange(2, 3).Draw(rt, "layers") {
			hides, files := d.all("hidden", 2, d.hide), d.all("entries", 6, d.entry)
			var plain, hard []testlayer.File
			for _, f := range files {
				if f.Typeflag == tar.TypeLink {
					hard = append(hard, f)
				} else {
					plain = append(plain, f)
				}
			}
			layers = append(layers, slices.Concat(hides, plain, hard))
			slices.Reverse(hides)
			slices.Reverse(plain)
			other = append(other, slices.Concat(plain, hides, hard))
		}
		one, err := unpack(t, filepath.Join(dir, "one"), tars(t, layers)...)
		if err != nil {
			return
		}
		two, err := unpack(t, filepath.Join(dir, "two"), tars(t, other)...)
		if err != nil || !maps.Equal(one, two) {
			return
		}
		if sameAsUnpacked(t, rt, dir, layers, true) {
			compared++
		}
	})
	t.Logf("%d trees were compared", compared)
}

func tars(tb testing.TB, layers [][]testlayer.File) (all [][]byte) {
	tb.Helper()
	for _, files := range layers {
		all = append(all, testlayer.Tar(tb, files...))
	}
	return all
}

// indexes returns those of the layers, each of which fails rt if it has none.
func indexes(tb testing.TB, rt *rapid.T, layers [][]testlayer.File) (all []*layer.Index) {
	tb.Helper()
	for _, l := range tars(tb, layers) {
		ix, err := layer.MakeIndex(context.Background(), bytes.NewReader(l), nil)
		if err != nil {
			rt.Fatalf("MakeIndex: %v%s", err, describeFiles(layers))
		}
		all = append(all, ix)
	}
	return all
}

// sameAsUnpacked says whether the layers could be unpacked, and fails rt if their
// tree is another one. One of links may be refused, as if their order mattered.
func sameAsUnpacked(t *testing.T, rt *rapid.T, dir string, layers [][]testlayer.File, links bool) bool {
	t.Helper()
	want, err := unpack(t, filepath.Join(dir, "tree"), tars(t, layers)...)
	if err != nil {
		return false
	}
	all := indexes(t, rt, layers)
	got, err := list(tree(all...))
	if links && errors.Is(err, syscall.EINVAL) {
		return false
	}
	if err != nil {
		rt.Fatalf("List: %v%s", err, describeFiles(layers))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		rt.Fatalf("tree (want, got):\n%s%s", diff, describeFiles(layers))
	}
	over, err := overlay(t, tree(all...), layers)
	if err != nil {
		rt.Fatalf("overlay: %v%s", err, describeFiles(layers))
	}
	if diff := cmp.Diff(withoutLinks(want), over); diff != "" {
		rt.Fatalf("overlay (want, got):\n%s%s", diff, describeFiles(layers))
	}
	return true
}
