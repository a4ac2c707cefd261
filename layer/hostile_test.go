package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/klauspost/compress/zstd"
)

func withXattr(name, value string) testlayer.File {
	f := testlayer.Reg("f", "")
	f.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return f
}

// hugePAX is a PAX header of 2 MiB before a file.
func hugePAX() []byte {
	record := fmt.Sprintf("%d SCHILY.xattr.user.x=%s\n", 2<<20, strings.Repeat("x", 2<<20-29))
	block := testlayer.Raw("p", 'x', map[int]string{124: fmt.Sprintf("%011o\x00", len(record))})
	all := append(block, record...)
	all = append(all, make([]byte, -len(record)&511)...)
	return append(append(all, testlayer.Raw("f", '0', nil)...), make([]byte, 1024)...)
}

// withPAX is a file with a PAX record, of up to 90 bytes.
func withPAX(record string) []byte {
	record = fmt.Sprintf("%d %s\n", len(record)+4, record)
	all := append(testlayer.Raw("p", 'x', map[int]string{124: fmt.Sprintf("%011o\x00", len(record))}), record...)
	all = append(all, make([]byte, -len(record)&511)...)
	return append(append(all, testlayer.Raw("f", '2', map[int]string{157: "x"})...), make([]byte, 1024)...)
}

// TestHostile refuses what no layer may have, by the kind of the error.
func TestHostile(t *testing.T) {
	one := func(f testlayer.File) []byte { return testlayer.Tar(t, f) }
	raw := func(typeflag byte, fields map[int]string) []byte {
		return append(testlayer.Raw("f", typeflag, fields), make([]byte, 1024)...)
	}
	long := strings.Repeat("abcd/", 999) + "abcde"
	last, neg := testlayer.Reg("f", ""), testlayer.Reg("f", "")
	last.Uid, neg.Gid = 1<<32-1, -2
	neg.Format = tar.FormatGNU
	neg.ModTime = testlayer.Time.Truncate(1e9)
	for name, c := range map[string]struct {
		layer []byte
		want  error
	}{
		"name of 5000 bytes":      {one(testlayer.Reg(long, "")), syscall.ENAMETOOLONG},
		"component of 256 bytes":  {one(testlayer.Reg("d/"+strings.Repeat("x", 256), "")), syscall.ENAMETOOLONG},
		"513 components":          {one(testlayer.Reg(strings.Repeat("d/", 512)+"e", "")), syscall.ENAMETOOLONG},
		"link name of 5000 bytes": {one(testlayer.Link("h", long)), syscall.ENAMETOOLONG},
		"link of 5000 bytes":      {one(testlayer.Symlink("l", long)), syscall.ENAMETOOLONG},
		"link to the root":        {one(testlayer.Link("h", "a/..")), syscall.EINVAL},
		"link to what is below":   {one(testlayer.Link("d/h", "d/h/f")), syscall.EINVAL},
		"a NUL in a name":         {withPAX("path=a\x00b"), tar.ErrHeader},
		"a NUL in a link's name":  {withPAX("linkpath=a\x00b"), tar.ErrHeader},
		"empty link":              {raw('2', nil), syscall.EINVAL},
		"the root a link":         {one(testlayer.Symlink(".", "/etc")), syscall.EINVAL},
		"the root a file":         {one(testlayer.Reg("x/..", "")), syscall.EINVAL},
		"whiteout of nothing":     {one(testlayer.Reg("a/.wh.", "")), syscall.EINVAL},
		"whiteout of .":           {one(testlayer.Reg("a/.wh..", "")), syscall.EINVAL},
		"whiteout of ..":          {one(testlayer.Reg("a/.wh...", "")), syscall.EINVAL},
		"below a whiteout":        {one(testlayer.Reg("a/.wh.b/c", "")), syscall.EINVAL},
		"below the root's":        {one(testlayer.Reg(".wh.b/c", "")), syscall.EINVAL},
		"below one of aufs's":     {one(testlayer.Reg("a/.wh..wh.b/c", "")), syscall.EINVAL},
		"nobody's number":         {one(last), syscall.EINVAL},
		"a negative owner":        {one(neg), syscall.EINVAL},
		"an unknown type":         {raw('D', nil), syscall.EINVAL},
		"no name of an attribute": {one(withXattr("", "x")), syscall.EINVAL},
		"a large device":          {one(testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 4096}}), syscall.EINVAL},
		"a negative size":         {raw('0', map[int]string{124: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), tar.ErrHeader},
		"more than there is":      {raw('0', map[int]string{124: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff"}), io.ErrUnexpectedEOF},
		"an endless size":         {raw('0', map[int]string{124: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), syscall.EFBIG},
		"a huge PAX record":       {hugePAX(), tar.ErrFieldTooLong},
		"nonsense":                {bytes.Repeat([]byte("nonsense"), 1000), tar.ErrHeader},
		"nothing":                 {nil, io.ErrUnexpectedEOF},
	} {
		_, contents, err := read(bytes.NewReader(c.layer), nil)
		if !errors.Is(err, c.want) || len(contents) > 0 {
			t.Errorf("%s: contents %q, error %v, want %v", name, contents, err, c.want)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// TestWindow reads what the largest window takes, and no larger one.
func TestWindow(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("a", strings.Repeat("x", 100<<10)))
	for window, want := range map[int]error{32 << 20: nil, 64 << 20: syscall.EFBIG} {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(plain, 64<<10) { // a stream, whose frame tells the window
			if _, err := w.Write(part); err != nil || w.Flush() != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(&b, nil); !errors.Is(err, want) {
			t.Errorf("a window of %d MiB: error %v, want %v", window>>20, err, want)
		}
	}
}

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestLimits ends at each limit, before, at and behind the tar's end.
func TestLimits(t *testing.T) {
	bomb := make([]byte, 60<<20)
	two := testlayer.Tar(t, testlayer.Reg("a", strings.Repeat("x", 5000)), testlayer.Reg("b", strings.Repeat("x", 5000)))
	for _, c := range []struct {
		name  string
		layer io.Reader
		opts  layer.Options
		want  error
	}{
		{"as many", bytes.NewReader(two), layer.Options{MaxEntries: 2, MaxBytes: int64(len(two))}, nil},
		{"an entry more", bytes.NewReader(two), layer.Options{MaxEntries: 1}, syscall.EFBIG},
		{"a byte more", bytes.NewReader(two), layer.Options{MaxBytes: int64(len(two)) - 1}, syscall.EFBIG},
		{"a file more", bytes.NewReader(two), layer.Options{MaxBytes: 9999}, syscall.EFBIG},
		{"zeros without end", io.MultiReader(bytes.NewReader(two), zeros{}), layer.Options{MaxBytes: 50 << 20}, syscall.EFBIG},
		{"a gzip bomb", bytes.NewReader(testlayer.Gzip(t, slices.Concat(two, bomb))), layer.Options{MaxBytes: 50 << 20}, syscall.EFBIG},
		{"a zstd bomb", bytes.NewReader(testlayer.Zstd(t, slices.Concat(two, bomb))), layer.Options{MaxBytes: 50 << 20}, syscall.EFBIG},
	} {
		if _, _, err := read(c.layer, &c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
}
