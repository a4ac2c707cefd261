package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// unpack unpacks layers into dir.
func unpack(dir string, opts *transfer.UnpackOptions, layers ...[]byte) (transfer.Losses, error) {
	u, err := transfer.NewUnpacker(dir, opts)
	if err != nil {
		return transfer.Losses{}, err
	}
	defer u.Close()
	for _, l := range layers {
		if err := u.Layer(context.Background(), bytes.NewReader(l)); err != nil {
			return u.Losses(), err
		}
	}
	return u.Losses(), nil
}

func mustUnpack(t *testing.T, dir string, layers ...[]byte) {
	t.Helper()
	if _, err := unpack(dir, nil, layers...); err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: no owners and no devices")
	}
}

// TestAttributes gives each kind of file all that a layer can say of it.
func TestAttributes(t *testing.T) {
	needRoot(t)
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	file := testlayer.Reg("d/file", "content")
	file.Mode, file.Uid, file.Gid, file.AccessTime = 0o6751, 1000, 70000, time.Unix(99, 7)
	file.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1\x00", "SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.t": ""}
	d := testlayer.Dir("d/")
	d.Mode, d.Uid, d.ModTime, d.PAXRecords = 0o1711, 5, time.Unix(-77, 1), map[string]string{"SCHILY.xattr.user.d": "d"}
	link := testlayer.Symlink("d/link", "/nowhere")
	link.Uid, link.PAXRecords = 6, map[string]string{"SCHILY.xattr.trusted.l": "l"}
	char := testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "d/char", Devmajor: 10, Devminor: 70000, Mode: 0o2666}}
	block := testlayer.File{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "d/block", Devmajor: 7, Devminor: 1, Mode: 0o600, Uid: 8}}
	fifo := testlayer.File{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o777, PAXRecords: map[string]string{"SCHILY.xattr.trusted.f": "f"}}}
	dir := filepath.Join(t.TempDir(), "tree")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	losses, err := unpack(dir, nil, testlayer.Gzip(t, testlayer.Tar(t, d, file, link, char, block, fifo, testlayer.Link("d/hard", "d/file"), testlayer.Reg("no/parent/f", ""))))
	if err != nil || losses != (transfer.Losses{}) {
		t.Fatalf("losses %+v, error %v, want none", losses, err)
	}
	want := map[string]string{
		".":       "040700 0:0 0.000000000", // the user's umask holds for what no layer has: the directory itself
		"d":       `041711 5:0 -77.000000001 user.d="d"`,
		"d/file":  `106751 1000:70000 1700000000.123456789 7 bytes ed7002b4 is d/file security.capability=` + quote(capability) + ` trusted.t="" user.a="1\x00"`,
		"d/hard":  `106751 1000:70000 1700000000.123456789 7 bytes ed7002b4 is d/file security.capability=` + quote(capability) + ` trusted.t="" user.a="1\x00"`,
		"d/link":  `120777 6:0 1700000000.123456789 -> /nowhere trusted.l="l"`,
		"d/char":  "022666 0:0 1700000000.123456789 10:70000",
		"d/block": "060600 8:0 1700000000.123456789 7:1",
		"d/fifo":  `010777 0:0 1700000000.123456789 trusted.f="f"`,
		"no":      "040755 0:0 0.000000000", "no/parent": "040755 0:0 0.000000000",
		"no/parent/f": "100644 0:0 1700000000.123456789 0 bytes e3b0c442",
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "d/file"), &st); err != nil || st.Atim.Sec != 99 || st.Atim.Nsec != 7 {
		t.Errorf("Stat = %v, access time %v, want 99 s and 7 ns", err, st.Atim)
	}
	if diff := cmp.Diff(want, sorted(testlayer.Tree(t, dir))); diff != "" {
		t.Errorf("tree (want, got):\n%s", diff)
	}
}

func quote(s string) string {
	return `"` + strings.NewReplacer("\x00", `\x00`, "\x01", `\x01`, "\x02", `\x02`, "\x04", `\x04`).Replace(s) + `"`
}

// sorted has the extended attributes of each line in order.
func sorted(tree map[string]string) map[string]string {
	for name, line := range tree {
		words := strings.Split(line, " ")
		i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "=") })
		if i > 0 {
			slices.Sort(words[i:])
			tree[name] = strings.Join(words, " ")
		}
	}
	return tree
}

// paths are all names in dir, those of directories with a slash, and the first
// byte of files.
func paths(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for name, line := range testlayer.Tree(t, dir) {
		switch {
		case name == ".":
		case strings.HasPrefix(line, "04"):
			all = append(all, name+"/")
		case strings.HasPrefix(line, "12"):
			all = append(all, name+"@")
		default:
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name+"="+string(b))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestOneUnpacker keeps a second one out of a directory until the first is done.
func TestOneUnpacker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	first, err := transfer.NewUnpacker(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := transfer.NewUnpacker(dir, nil); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("NewUnpacker = %v, %v while another is at work, want EBUSY", second, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Reg("f", "")))
}

// TestLayers puts layers on each other.
func TestLayers(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers []string
		want   string
	}{
		{"a whiteout of a file", []string{"a=1 b=1", ".wh.a"}, "b=1"},
		{"of a directory", []string{"d/ d/e/ d/e/f=1 d/g=1 x=1", ".wh.d"}, "x=1"},
		{"of nothing", []string{"a=1", ".wh.b no/.wh.c a/.wh.d"}, "a=1"},
		{"of a link, not where it leads", []string{"d/ d/f=1 l@d", ".wh.l"}, "d/ d/f=1"},
		{"then a file of that name", []string{"a=1", ".wh.a a=2"}, "a=2"},
		{"after a file of that name", []string{"a=1", "a=2 .wh.a"}, "a=2"},
		{"after a directory of that name", []string{"d/ d/low=1 d/both=1 d/e/ d/e/low=1", "d/ d/both=2 d/e/ d/e/up=2 .wh.d"}, "d/ d/both=2 d/e/ d/e/up=2"},
		{"after what came into it", []string{"d/ d/low=1 d/e/ d/e/low=1", "d/e/up=2 .wh.d"}, "d/ d/e/ d/e/up=2"},
		{"in a directory of this layer", []string{"x=1", "d/ d/e/ d/e/f=2 d/e/.wh.f d/g=2 .wh.d d/e/.wh.f d/.wh.e"}, "d/ d/e/ d/e/f=2 d/g=2 x=1"},
		{"in one that was left and entered again", []string{"x=1", "d/ d/a=2 y=2 d/.wh.a d/b=2 y=3 d/.wh.b"}, "d/ d/a=2 d/b=2 x=1 y=3"},
		{"opaque, first", []string{"d/ d/a=1 d/b=1 d/e/ d/e/f=1", "d/ d/.wh..wh..opq d/b=2"}, "d/ d/b=2"},
		{"opaque, last", []string{"d/ d/a=1 d/b=1 d/e/ d/e/f=1 d/g/ d/g/h=1", "d/ d/b=2 d/e/ d/e/x=2 d/.wh..wh..opq"}, "d/ d/b=2 d/e/ d/e/x=2"},
		{"opaque root", []string{"d/ d/a=1 b=1", "c=2 .wh..wh..opq"}, "c=2"},
		{"opaque and absent", []string{"a=1", "d/.wh..wh..opq a/.wh..wh..opq"}, "a=1"},
		{"opaque through a link", []string{"d/ d/a=1 l@d", "l/b=2 l/.wh..wh..opq"}, "d/ d/b=2 l@"},
		{"opaque above a link's target", []string{"u/ u/d/ u/d/a=1 l@u/d", "l/b=2 u/.wh..wh..opq"}, "l@ u/ u/d/ u/d/b=2"},
		{"a file over a directory", []string{"d/ d/e/ d/e/f=1", "d=2"}, "d=2"},
		{"a directory over a file", []string{"d=1", "d/ d/f=2"}, "d/ d/f=2"},
		{"a directory over a link", []string{"e/ e/f=1 d@e", "d/ d/g=2"}, "d/ d/g=2 e/ e/f=1"},
		{"a link over a directory", []string{"e/ d/ d/f=1", "d@e"}, "d@ e/"},
		{"through a link to it", []string{"e/ d@e", "d/g=2"}, "d@ e/ e/g=2"},
		{"a directory over a directory", []string{"d/ d/a=1", "d/ d/b=2"}, "d/ d/a=1 d/b=2"},
		{"the same twice", []string{"a=1 a=2 d/ d/f=1 d=3 d/ d/g=4"}, "a=2 d/ d/g=4"},
		{"a missing parent where a file is", []string{"a=1", "a/b=2"}, "a/ a/b=2"},
		{"through a link to nowhere", []string{"run@/var/run", "run/d/f=2"}, "run@ var/ var/run/ var/run/d/ var/run/d/f=2"},
		{"a hard link over one", []string{"a=1 b#a c#a", "a=2 b#a"}, "a=2 b=2 c=1"},
		{"a hard link to itself", []string{"a=1 a#a ./a#../a"}, "a=1"},
		{"a hard link by a link", []string{"d/ d/a=1 l@d", "b#l/a"}, "b=1 d/ d/a=1 l@"},
		{"names out of the root", []string{"../../a=1 /b=1 d/../../c=1 ./e/./f=1"}, "a=1 b=1 c=1 e/ e/f=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tree")
			var layers [][]byte
			for _, words := range c.layers {
				layers = append(layers, testlayer.Tar(t, testlayer.Words(words)...))
			}
			mustUnpack(t, dir, layers...)
			if got := paths(t, dir); got != c.want {
				t.Errorf("the tree is %s, want %s", got, c.want)
			}
			before := testlayer.Tree(t, dir)
			mustUnpack(t, dir, layers...)
			if diff := cmp.Diff(before, testlayer.Tree(t, dir)); diff != "" {
				t.Errorf("once more (first, second):\n%s", diff)
			}
		})
	}
}

// TestTimes leaves directories the times that layers gave them, also where a
// later layer or entry changed what is in them.
func TestTimes(t *testing.T) {
	d, e := testlayer.Dir("d"), testlayer.Dir("d/e")
	d.ModTime, e.ModTime = time.Unix(1, 1), time.Unix(2, 2)
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir,
		testlayer.Tar(t, testlayer.Reg("d/before", ""), d, e, testlayer.Reg("d/e/f", ""), testlayer.Reg("x", ""), testlayer.Reg("d/e/g", "")),
		testlayer.Tar(t, testlayer.Reg("d/.wh.before", ""), testlayer.Reg("d/e/new", ""), testlayer.Link("d/hard", "d/e/f")),
	)
	for name, want := range map[string]time.Time{"d": d.ModTime, "d/e": e.ModTime, ".": time.Unix(0, 0)} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(want) {
			t.Errorf("Stat(%s) = %v, %v, want time %v", name, info.ModTime(), err, want)
		}
	}
}

// TestLowerAttributes takes away what an earlier layer's entry had.
func TestLowerAttributes(t *testing.T) {
	with, without := testlayer.Dir("d"), testlayer.Dir("d")
	with.PAXRecords = map[string]string{"SCHILY.xattr.user.old": "1", "SCHILY.xattr.user.both": "1"}
	without.PAXRecords = map[string]string{"SCHILY.xattr.user.both": "2"}
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir, testlayer.Tar(t, with), testlayer.Tar(t, without))
	if got := testlayer.Tree(t, dir)["d"]; !strings.HasSuffix(got, `123456789 user.both="2"`) {
		t.Errorf("d is %s, want user.both=2 alone", got)
	}
}

// TestHoles writes no zeros.
func TestHoles(t *testing.T) {
	content := make([]byte, 8<<20)
	content[0], content[5<<20] = 'a', 'b'
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir, testlayer.Zstd(t, testlayer.Tar(t, testlayer.Reg("f", string(content)), testlayer.Reg("z", string(content[1:1<<20])))))
	b, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || !bytes.Equal(b, content) {
		t.Errorf("f is not what it was: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "f"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("Stat(f) = %v, %d bytes on disk, want 1 MiB at most", err, st.Blocks*512)
	}
	if err := unix.Stat(filepath.Join(dir, "z"), &st); err != nil || st.Size != 1<<20-1 {
		t.Errorf("Stat(z) = %v, size %d, want %d", err, st.Size, 1<<20-1)
	}
}

// TestErrors says what is wrong by its kind, and leaves no directory open.
func TestErrors(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	zeros := testlayer.Gzip(t, testlayer.Tar(t, testlayer.Reg("z", string(make([]byte, 20<<20)))))
	cut := testlayer.Tar(t, testlayer.Reg("f", strings.Repeat("x", 5000)))[:2000]
	for name, c := range map[string]struct {
		dir   string
		layer []byte
		want  error
	}{
		"no parent":             {filepath.Join(base, "no", "dir"), nil, iofs.ErrNotExist},
		"a file for directory":  {file, nil, syscall.ENOTDIR},
		"no layer":              {filepath.Join(base, "a"), nil, io.ErrUnexpectedEOF},
		"cut short":             {filepath.Join(base, "b"), cut, io.ErrUnexpectedEOF},
		"a bomb":                {filepath.Join(base, "c"), zeros, syscall.EFBIG},
		"a hard link to none":   {filepath.Join(base, "d"), testlayer.Tar(t, testlayer.Link("h", "none")), syscall.ENOENT},
		"links in a circle":     {filepath.Join(base, "e"), testlayer.Tar(t, testlayer.Words("a@b b@a a/f=1")...), syscall.ELOOP},
		"a link to a directory": {filepath.Join(base, "f"), testlayer.Tar(t, testlayer.Words("d/ h#d")...), syscall.EPERM},
	} {
		before := openFiles(t)
		if _, err := unpack(c.dir, &transfer.UnpackOptions{MaxBytes: 10 << 20}, c.layer); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d files are open, want %d", name, after, before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestCanceled ends in the midst of a file.
func TestCanceled(t *testing.T) {
	u, err := transfer.NewUnpacker(filepath.Join(t.TempDir(), "tree"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	ctx, cancel := context.WithCancel(context.Background())
	b := testlayer.Tar(t, testlayer.Reg("f", strings.Repeat("x", 8<<20)))
	r := io.MultiReader(bytes.NewReader(b[:1<<20]), call(cancel), bytes.NewReader(b[1<<20:]))
	if err := u.Layer(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Layer = %v, want context.Canceled", err)
	}
}

// call is a reader of nothing that calls.
type call func()

func (c call) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// TestDeep goes to the bound of depth, and back up.
func TestDeep(t *testing.T) {
	deep := strings.Repeat("d/", 511)
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Reg(deep+"f", "1"), testlayer.Reg("x", "")))
	if got := testlayer.Tree(t, dir); len(got) != 514 || got[deep+"f"] == "" {
		t.Errorf("%d paths, want 514 and the deepest", len(got))
	}
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Reg(".wh.d", "")))
	if got := slices.Collect(maps.Keys(testlayer.Tree(t, dir))); len(got) != 2 {
		t.Errorf("%v is left, want x alone", got)
	}
}

// TestDeviceOverDirectory puts a device where a full directory was, and back.
func TestDeviceOverDirectory(t *testing.T) {
	needRoot(t)
	null := testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1, Devminor: 3, Mode: 0o666}}
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Words("d/ d/e/ d/e/f=1")...), testlayer.Tar(t, null))
	if got := testlayer.Tree(t, dir); len(got) != 2 || got["d"] != "020666 0:0 1700000000.123456789 1:3" {
		t.Errorf("the tree is %v, want the device d alone", got)
	}
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Words("d/ d/f=2")...))
	if got := paths(t, dir); got != "d/ d/f=2" {
		t.Errorf("the tree is %s, want a directory with a file", got)
	}
}
