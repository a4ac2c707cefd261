package transfer_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestStaysInside has layers reach for what lies beside the directory, by all
// that a name or a link can say. Whatever comes of it, that stays as it is.
func TestStaysInside(t *testing.T) {
	base := t.TempDir()
	out := filepath.Join(base, "out")
	mustUnpack(t, out, testlayer.Tar(t, testlayer.Words("f=precious d/ d/g=precious")...))
	mode := testlayer.Dir("l")
	mode.Mode, mode.Uid = 0o777, 7
	through := testlayer.Reg("l/d/g", "evil")
	through.PAXRecords = map[string]string{"SCHILY.xattr.user.evil": "1"}
	dev := testlayer.File{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "l/fifo", Mode: 0o777}}
	cases := map[string][]testlayer.File{
		"an absolute name":                testlayer.Words(out + "/f=evil"),
		"dots":                            testlayer.Words("../out/f=evil d/../../out/f=evil x/../../../../../.." + out + "/f=evil"),
		"a hard link out":                 testlayer.Words("h#../out/f h2#" + out + "/f"),
		"a whiteout out":                  testlayer.Words("../out/.wh.f ../.wh.out d/../../.wh.out ../out/.wh..wh..opq"),
		"a whiteout through a link":       testlayer.Words("l@../out l/.wh.f l/d/.wh.g l/.wh..wh..opq .wh.l"),
		"an opaque link":                  testlayer.Words("l@" + out + " l/.wh..wh..opq"),
		"a directory over a link":         {testlayer.Symlink("l", out), mode},
		"a file over a link":              {testlayer.Symlink("d", "../out/f"), testlayer.Reg("d", "evil")},
		"a special file through a link":   {testlayer.Symlink("l", out), dev},
		"a hard link to a link":           {testlayer.Symlink("s", out+"/f"), testlayer.Link("h", "s"), testlayer.Reg("h", "evil")},
		"a hard link through a link":      testlayer.Words("l@" + out + " h#l/f h=evil"),
		"links that meet":                 testlayer.Words("a@.. b@a/out c@b/d b/f=evil c/g=evil a/out/f=evil"),
		"a link within a link":            testlayer.Words("d/ d/up@../.. d/up/out/f=evil l@d/up/out l/f=evil"),
		"a link in the place of a parent": testlayer.Words("d/ d/e/ d/e/x=1 d@../out d/g=evil d/e/g=evil"),
		"proc":                            testlayer.Words("p@/proc/self/root" + out + " p/f=evil q@/proc/self/cwd q/f=evil"),
	}
	for _, target := range []string{"../out", out, "/.." + out, "./../out/.", strings.Repeat("../", 30) + out} {
		cases["through a link to "+target] = []testlayer.File{testlayer.Symlink("l", target), testlayer.Reg("l/f", "evil"), through, testlayer.Symlink("l/new", "x")}
	}
	want := testlayer.Tree(t, out)
	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(base, "tree")
			t.Cleanup(func() { os.RemoveAll(dir) })
			// All entries, and each alone on what those before it left: an error ends a layer.
			_, err := unpack(dir, nil, testlayer.Tar(t, files...))
			t.Log(err)
			for _, f := range files {
				_, _ = unpack(dir, nil, testlayer.Tar(t, f))
			}
			if diff := cmp.Diff(want, testlayer.Tree(t, out)); diff != "" {
				t.Errorf("what is outside (before, after):\n%s", diff)
			}
			beside, err := os.ReadDir(base)
			if err != nil || len(beside) != 2 {
				t.Errorf("beside the tree: %v, %v, want out alone", beside, err)
			}
		})
	}
}

// words draws entries over few names, so that they get into each other's way,
// each behind the directories that it is in.
func words(t *rapid.T) string {
	name := rapid.SampledFrom([]string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "l", "l/a", "l/b", "a/b", "l/e/x"})
	var all []string
	for range rapid.IntRange(1, 12).Draw(t, "entries") {
		n := name.Draw(t, "name")
		i := strings.LastIndex(n, "/") + 1
		for at, c := range n {
			if c == '/' {
				all = append(all, n[:at+1])
			}
		}
		all = append(all, rapid.SampledFrom([]string{
			n + "/", n + "=1", n + "=2", n + "=", n + "@d", n + "@/d/e", n + "@..", n + "@.", n[:i] + ".wh." + n[i:], n[:i] + ".wh..wh..opq",
		}).Draw(t, "entry"))
	}
	return strings.Join(all, " ")
}

// TestInterrupted cuts a run short anywhere; another one then ends as if nothing
// had been, and what is outside is never touched.
func TestInterrupted(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dirs, err := os.MkdirTemp(base, "run") //nolint:usetesting // each check has its own
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dirs)
		layers := make([][]byte, rapid.IntRange(1, 3).Draw(rt, "layers"))
		for i := range layers {
			layers[i] = testlayer.Tar(t, append([]testlayer.File{testlayer.Dir(".")}, testlayer.Words(words(rt))...)...)
		}
		whole, again := filepath.Join(dirs, "whole"), filepath.Join(dirs, "again")
		_, err = unpack(whole, nil, layers...)
		until := rapid.IntRange(0, len(layers)-1).Draw(rt, "until")
		cut := rapid.IntRange(1, len(layers[until])).Draw(rt, "cut")
		before := append(layers[:until:until], layers[until][:cut])
		_, _ = unpack(again, nil, before...)
		_, err2 := unpack(again, nil, layers...)
		if (err == nil) != (err2 == nil) {
			rt.Fatalf("uninterrupted: %v, once more: %v", err, err2)
		}
		if diff := cmp.Diff(testlayer.Tree(t, whole), testlayer.Tree(t, again)); diff != "" && err == nil {
			rt.Errorf("(whole, interrupted and done again):\n%s", diff)
		}
		if list, err := os.ReadDir(dirs); err != nil || len(list) != 2 {
			rt.Errorf("%v, %v: want two trees", list, err)
		}
	})
}

// TestSwappedFile has who owns a directory of the tree put a name of a file outside
// in the place of fifos that were just made, as often as it can: that file keeps
// its owner and mode.
func TestSwappedFile(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	root, victim, link := filepath.Join(top, "root"), filepath.Join(top, "victim"), filepath.Join(top, "link")
	if err := os.WriteFile(victim, []byte("root's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := []testlayer.File{testlayer.Dir("d")}
	for i := range 3000 {
		files = append(files, testlayer.File{Header: tar.Header{Typeflag: tar.TypeFifo, Name: fmt.Sprintf("d/%d", i), Mode: 0o4777, Uid: 1000, Gid: 1000}})
	}
	b := testlayer.Tar(t, files...)
	there := func(i int) bool {
		_, err := os.Lstat(fmt.Sprintf("%s/d/%d", root, i))
		return err == nil
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			switch {
			case there(i):
				_ = os.Link(victim, link)
				_ = os.Rename(link, fmt.Sprintf("%s/d/%d", root, i))
				i += 3
			case there(i+1) || there(i+20):
				i += 20
			}
		}
	}()
	_, err := unpack(root, nil, b)
	close(stop)
	<-done
	if err != nil && !errors.Is(err, syscall.EPERM) {
		t.Errorf("error %v, want none or EPERM", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(victim, &st); err != nil || st.Uid != 0 || st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("Stat = %v: the file outside has owner %d and mode %o, want 0 and 100600", err, st.Uid, st.Mode)
	}
}

// TestLinkBomb ends layers that would keep a processor busy: links that lead through
// links, a long way each, at each entry; entries far from each other; and whiteouts
// of what the layer itself put there.
func TestLinkBomb(t *testing.T) {
	deep, up := strings.Repeat("a/", 500), strings.Repeat("../", 500)
	links := []testlayer.File{testlayer.Dir(deep)}
	const chain = 250
	for i := range chain {
		links = append(links, testlayer.Symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("%s%sl%d", deep, up, i+1)))
	}
	links = append(links, testlayer.Dir(fmt.Sprintf("l%d", chain)), testlayer.Dir("b"))
	var opaque []testlayer.File
	for i := range 2000 {
		opaque = append(opaque, testlayer.Reg(fmt.Sprintf("d/%d", i), ""))
	}
	for name, files := range map[string][]testlayer.File{
		"links":     append(links, slices.Repeat([]testlayer.File{testlayer.Reg("l0/f", ""), testlayer.Reg("b/f", "")}, 3)...),
		"far":       slices.Repeat([]testlayer.File{testlayer.Dir(deep + "f"), testlayer.Dir("c/" + deep + "f")}, 400),
		"whiteouts": append(opaque, slices.Repeat([]testlayer.File{testlayer.Reg("d/.wh..wh..opq", "")}, 300)...),
	} {
		dir := filepath.Join(t.TempDir(), "tree")
		mustUnpack(t, dir, testlayer.Tar(t, testlayer.Dir("d")))
		b := testlayer.Tar(t, files...)
		if _, err := unpack(dir, nil, b); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s: error %v, want EFBIG", name, err)
		}
	}
}
