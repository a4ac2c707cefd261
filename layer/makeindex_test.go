package layer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

func makeIndex(tb testing.TB, b []byte) *layer.Index {
	tb.Helper()
	ix, err := layer.MakeIndex(tb.Context(), bytes.NewReader(b), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ix
}

// find returns the inode of a path.
func find(tb testing.TB, ix *layer.Index, path string) *layer.Inode {
	tb.Helper()
	n := uint32(0)
	for name := range strings.SplitSeq(path, "/") {
		child, ok := ix.Lookup(n, name)
		if !ok {
			tb.Fatalf("no %s", path)
		}
		n = child
	}
	return ix.Inode(n)
}

// inFormats returns the tar in all that it may come in.
func inFormats(tb testing.TB, plain []byte) map[string][]byte {
	tb.Helper()
	third := len(plain) / 3
	gz := func(b []byte) []byte { return testlayer.Gzip(tb, b) }
	zst := func(b []byte) []byte { return testlayer.Zstd(tb, b) }
	frames := [][]byte{skippable(5)}
	for part := range slices.Chunk(plain, 200<<10) {
		frames = append(frames, zst(part), skippable(3))
	}
	return map[string][]byte{
		"tar": plain, "gzip": gz(plain), "zstd": zst(plain),
		"gzip of members": bytes.Join([][]byte{gz(plain[:100]), gz(nil), gz(plain[100:third]), gz(plain[third:])}, nil),
		"zstd of frames":  append(bytes.Join(frames, nil), skippable(100<<10)...),
		"zstd apart":      bytes.Join([][]byte{skippable(9000), zst(plain[:third]), skippable(9000), zst(plain[third:])}, nil),
	}
}

// skippable is a zstd frame of n bytes that mean nothing.
func skippable(n int) []byte {
	return append([]byte{0x5e, 0x2a, 0x4d, 0x18, byte(n), byte(n >> 8), byte(n >> 16), 0}, bytes.Repeat([]byte("skip!"), n/5+1)[:n]...)
}

// TestMakeIndex finds in each format what the tar has, and spans that cover it.
func TestMakeIndex(t *testing.T) {
	big := text(1, 12<<20)
	plain := testlayer.Tar(t, testlayer.Dir("d"), testlayer.Reg("d/big", big), testlayer.Reg("d/small", "content"),
		testlayer.Link("h", "d/small"), testlayer.Symlink("l", "d"), testlayer.Reg("d/.wh.gone", ""), testlayer.Reg("none", ""))
	for name, b := range inFormats(t, plain) {
		ix := makeIndex(t, b)
		if ix.DiffID.String() != fmt.Sprintf("sha256:%x", sha256.Sum256(plain)) || ix.Length != int64(len(plain)) || ix.View != layer.ViewTar || ix.Format != layer.Detect(b) {
			t.Errorf("%s: DiffID %s, Length %d, View %d, Format %d", name, ix.DiffID, ix.Length, ix.View, ix.Format)
		}
		for path, content := range map[string]string{"d/big": big, "d/small": "content", "h": "content", "none": ""} {
			ino := find(t, ix, path)
			if ino.Digest != sha256.Sum256([]byte(content)) || ino.Size != int64(len(content)) || string(plain[ino.Offset:][:ino.Size]) != content {
				t.Errorf("%s: %s is at %d, %d bytes, %x", name, path, ino.Offset, ino.Size, ino.Digest)
			}
		}
		if find(t, ix, "d/gone").Kind != layer.Whiteout || find(t, ix, "h") != find(t, ix, "d/small") || find(t, ix, "l").Link() != "d" {
			t.Errorf("%s: the tree is another", name)
		}
		out := int64(0)
		for i, s := range ix.Spans {
			raw := b[s.Off:][:s.Len]
			if s.Out != out || s.Size <= 0 || s.Digest != sha256.Sum256(raw) || s.Size > 8<<20 && name != "zstd" && name != "zstd apart" {
				t.Errorf("%s: span %d at %d: %d bytes, %x", name, i, s.Out, s.Size, s.Digest)
			}
			if bytes.Contains(raw, skippable(9000)[:100]) {
				t.Errorf("%s: span %d has a large frame to skip", name, i)
			}
			out += s.Size
		}
		if out != ix.Length || name == "zstd of frames" && len(ix.Spans) < 10 || name == "zstd apart" && len(ix.Spans) != 2 {
			t.Errorf("%s: %d spans of %d bytes, want %d", name, len(ix.Spans), out, ix.Length)
		}
	}
}

// sparse makes a tar with the arguments of a file "holes" and a file "after" it,
// and returns what is in the former.
func sparse(tb testing.TB, size int64, parts map[int64]string, args ...string) []byte {
	tb.Helper()
	dir := tb.TempDir()
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
	for off, s := range parts {
		if _, err := f.WriteAt([]byte(s), off); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "after"), []byte("after"), 0o644); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("tar", append(append([]string{"-cS"}, args...), "holes", "after")...)
	cmd.Dir = dir
	b, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestSparseIndex reads files with holes in each of the forms that GNU tar has for
// them.
func TestSparseIndex(t *testing.T) {
	long := strings.Repeat("x", 120)
	for _, count := range []int{0, 1, 4, 5, 60} {
		for _, args := range [][]string{
			{"--format=gnu"},
			{"--format=gnu", "--transform=s/$/" + long + "/"},
			{"--format=pax", "--sparse-version=0.0"},
			{"--format=pax", "--sparse-version=0.1"},
			{"--format=pax", "--sparse-version=1.0"},
			{"--format=pax", "--sparse-version=1.0", "--transform=s/$/" + long + "/"},
		} {
			size, parts := int64(5<<20)+7, make(map[int64]string)
			want := make([]byte, size)
			for i := range count {
				off := int64(i)*64<<10 + int64(i%2)*4096
				parts[off] = fmt.Sprint(off, strings.Repeat("y", i*97%5000))
				copy(want[off:], parts[off])
			}
			plain := sparse(t, size, parts, args...)
			ix := makeIndex(t, plain)
			suffix := ""
			if len(args) > 1 && strings.HasPrefix(args[len(args)-1], "--transform") {
				suffix = long
			}
			ino := find(t, ix, "holes"+suffix)
			if ino.Size != size || ino.Digest != sha256.Sum256(want) || ino.Data() == nil {
				t.Errorf("%d parts, %.60q: %d bytes in %d segments, digest %x", count, args, ino.Size, len(ino.Data()), ino.Digest)
			}
			c := layer.NewContent(ix, blob(plain), "sparse", nil)
			got := make([]byte, size)
			if n, err := c.ReadAt(t.Context(), ino, got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d parts, %.60q: %d bytes, %v, other than %d", count, args, n, err, size)
			}
			got = got[:5]
			if n, err := c.ReadAt(t.Context(), find(t, ix, "after"+suffix), got, 0); string(got[:n]) != "after" || err != nil {
				t.Errorf("%d parts, %.60q: %q follows, %v", count, args, got[:n], err)
			}
		}
	}
}

// TestVast takes no time for a file that is nothing but a hole.
func TestVast(t *testing.T) {
	const size = 1000 << 30
	for _, format := range []string{"gnu", "pax"} {
		plain := sparse(t, size, map[int64]string{size / 2: "middle"}, "--format="+format)
		ix := makeIndex(t, plain)
		ino := find(t, ix, "holes")
		c := layer.NewContent(ix, blob(plain), "vast", nil)
		got := make([]byte, 10)
		if n, err := c.ReadAt(t.Context(), ino, got, size/2-2); string(got[:n]) != "\x00\x00middle\x00\x00" || err != nil || ino.Size != size || ino.Digest != [32]byte{} {
			t.Errorf("%s: %d bytes, digest %x, in the middle %q, %v", format, ino.Size, ino.Digest, got[:n], err)
		}
		if n, err := c.ReadAt(t.Context(), find(t, ix, "after"), got, 0); string(got[:n]) != "after" || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %q follows, %v", format, got[:n], err)
		}
	}
}

// TestMakeIndexFails has the errors of a Reader, from each format, and ends what
// it began.
func TestMakeIndexFails(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("f", text(2, 3<<20)), testlayer.Reg("g", ""))
	for name, b := range inFormats(t, plain) {
		for _, n := range []int{0, 3, len(b) / 2, len(b) - 1400} {
			if name == "zstd of frames" {
				n = n / 2
			}
			if ix, err := layer.MakeIndex(t.Context(), bytes.NewReader(b[:n]), nil); err == nil {
				t.Errorf("%s cut at %d of %d: %d spans, no error", name, n, len(b), len(ix.Spans))
			}
		}
		if _, err := layer.MakeIndex(t.Context(), bytes.NewReader(b), &layer.Options{MaxBytes: 1 << 20}); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s of more than MaxBytes: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		read := 0
		_, err := layer.MakeIndex(ctx, reader(func(p []byte) (int, error) {
			n := copy(p[:min(len(p), 1000)], b[read:])
			if read += n; read > len(b)/2 {
				cancel()
			}
			return n, nil
		}), nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s, ended in its middle: %v", name, err)
		}
		lost := errors.New("lost")
		if _, err := layer.MakeIndex(t.Context(), io.MultiReader(bytes.NewReader(b[:len(b)/2]), reader(func([]byte) (int, error) { return 0, lost })), nil); !errors.Is(err, lost) {
			t.Errorf("%s, lost in its middle: %v", name, err)
		}
	}
	dir := testlayer.Tar(t, testlayer.Dir("d"), testlayer.Link("h", "d"))
	if _, err := layer.MakeIndex(t.Context(), bytes.NewReader(dir), nil); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a link to a directory: %v", err)
	}
}

// TestMakeIndexEnds has the work end with its context also where a little that was read
// long ago decompresses to much.
func TestMakeIndexEnds(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("zeros", string(make([]byte, 64<<20))))
	for name, b := range map[string][]byte{"gzip": testlayer.Gzip(t, plain), "zstd": testlayer.Zstd(t, plain)} {
		ctx, cancel := context.WithCancel(t.Context())
		in, done := bytes.NewReader(b), new(bytes.Buffer)
		_, err := layer.MakeIndex(ctx, reader(func(p []byte) (int, error) {
			n, err := in.Read(p)
			if in.Len() == 0 {
				cancel()
			}
			return n, err
		}), &layer.Options{Tar: done})
		cancel()
		if !errors.Is(err, context.Canceled) || done.Len() > len(plain)/2 {
			t.Errorf("%s: %v after %d of %d bytes, want %v at once", name, err, done.Len(), len(plain), context.Canceled)
		}
	}
}

type reader func(p []byte) (int, error)

func (f reader) Read(p []byte) (int, error) { return f(p) }

// TestTarCopy gives the tar to who wants it, as a Reader does.
func TestTarCopy(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("f", text(3, 1<<20)))
	var got bytes.Buffer
	if _, err := layer.MakeIndex(t.Context(), bytes.NewReader(testlayer.Gzip(t, plain)), &layer.Options{Tar: &got}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), plain) {
		t.Errorf("%d bytes, other than the %d of the tar", got.Len(), len(plain))
	}
}
