package layer_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// compared has one file of each kind, of whose attributes TestCompare changes one.
func compared() []testlayer.File {
	reg, device := testlayer.Reg("reg", "content"), testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "device", Devmajor: 1, Devminor: 3}}
	reg.Mode, reg.Uid, reg.Gid = 0o640, 1000, 70_000
	reg.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "2"}
	return []testlayer.File{
		testlayer.Reg(".prefetch.landmark", "\x0f"), testlayer.Dir("dir"), testlayer.Dir("dir/empty"), reg, testlayer.Reg("none", ""), device, testlayer.Symlink("symlink", "reg"),
		testlayer.Link("hardlink", "reg"), testlayer.Reg("dir/.wh.gone", ""), testlayer.Dir("opaque"), testlayer.Reg("opaque/.wh..wh..opq", ""),
	}
}

// TestCompare finds whatever a table of contents says that the tar does not, in either
// format, and says where and in what.
func TestCompare(t *testing.T) {
	changed := func(name string, change func(f *testlayer.File)) func([]testlayer.File) []testlayer.File {
		return func(files []testlayer.File) []testlayer.File {
			i := slices.IndexFunc(files, func(f testlayer.File) bool { return f.Name == name })
			change(&files[i])
			return files
		}
	}
	added := func(more ...testlayer.File) func([]testlayer.File) []testlayer.File {
		return func(files []testlayer.File) []testlayer.File { return append(files, more...) }
	}
	without := func(name string) func([]testlayer.File) []testlayer.File {
		return func(files []testlayer.File) []testlayer.File {
			return slices.DeleteFunc(files, func(f testlayer.File) bool { return f.Name == name })
		}
	}
	cases := map[string]struct {
		change     func([]testlayer.File) []testlayer.File // makes of what the table says what the tar has
		path, what string
	}{
		"a file more":           {added(testlayer.Reg("dir/hidden", "x")), "dir/hidden", "name"},
		"an empty file more":    {added(testlayer.Reg("hidden", "")), "hidden", "name"},
		"a last name more":      {added(testlayer.Reg("z", "")), "z", "name"},
		"a file less":           {without("reg"), "reg", "name"},
		"a directory less":      {without("dir/empty"), "dir/empty", "name"},
		"a whiteout more":       {added(testlayer.Reg(".wh.reg2", "")), "reg2", "name"},
		"a whiteout less":       {without("dir/.wh.gone"), "dir/gone", "name"},
		"a directory of no one": {without("dir"), "dir", "type"}, // it has no entry
		"one that hides":        {added(testlayer.Reg("dir/.wh..wh..opq", "")), "dir", "type"},
		"one that hides less":   {without("opaque/.wh..wh..opq"), "opaque", "type"},
		"a fifo":                {changed("none", func(f *testlayer.File) { f.Typeflag = tar.TypeFifo }), "none", "type"},
		"a whiteout instead":    {changed("none", func(f *testlayer.File) { f.Name = ".wh.none" }), "none", "type"},
		"a longer file":         {changed("reg", func(f *testlayer.File) { f.Content += "more" }), "reg", "size"},
		"other content":         {changed("reg", func(f *testlayer.File) { f.Content = "CONTENT" }), "reg", "content"},
		"a mode":                {changed("dir", func(f *testlayer.File) { f.Mode = 0o700 }), "dir", "mode"},
		"setuid":                {changed("reg", func(f *testlayer.File) { f.Mode |= 0o4000 }), "reg", "mode"},
		"a user":                {changed("reg", func(f *testlayer.File) { f.Uid = 0 }), "reg", "owner"},
		"a group":               {changed("dir", func(f *testlayer.File) { f.Gid = 1 }), "dir", "owner"},
		"a time":                {changed("dir", func(f *testlayer.File) { f.ModTime = testlayer.Time.Add(-time.Hour) }), "dir", "time"},
		"a target":              {changed("symlink", func(f *testlayer.File) { f.Linkname = "/etc/shadow" }), "symlink", "link"},
		"a hard link to below":  {changed("hardlink", func(f *testlayer.File) { f.Linkname = "elsewhere" }), "reg", "link"},
		"a hard link of others": {changed("hardlink", func(f *testlayer.File) { f.Linkname = "none" }), "reg", "link"},
		"a copy":                {changed("hardlink", func(f *testlayer.File) { f.Typeflag, f.Linkname, f.Content = tar.TypeReg, "", "content" }), "reg", "link"},
		"a device's number":     {changed("device", func(f *testlayer.File) { f.Devminor = 8 }), "device", "device"},
		"an attribute":          {changed("reg", func(f *testlayer.File) { f.PAXRecords["SCHILY.xattr.user.a"] = "3" }), "reg", "extended attributes"},
		"an attribute more":     {changed("reg", func(f *testlayer.File) { f.PAXRecords["SCHILY.xattr.security.capability"] = "x" }), "reg", "extended attributes"},
		"an attribute less":     {changed("reg", func(f *testlayer.File) { delete(f.PAXRecords, "SCHILY.xattr.user.b") }), "reg", "extended attributes"},
	}
	for format, pack := range map[string]func(testing.TB, *testlayer.Chunking, ...testlayer.File) ([]byte, map[string]string){
		"eStargz": testlayer.EStargz, "zstd:chunked": testlayer.ZstdChunked,
	} {
		mark := func(files []testlayer.File) []testlayer.File { return files }
		if format != "eStargz" { // whose landmarks are files there
			mark = without(".prefetch.landmark")
		}
		b, annotations := pack(t, nil, mark(compared())...)
		toc, err := readTOC(t, b, annotations)
		if err != nil {
			t.Fatal(err)
		}
		if err := layer.Compare(toc, wholeIndex(t, b, annotations)); err != nil {
			t.Errorf("%s: Compare of the same = %v", format, err)
		}
		for name, c := range cases {
			plain := testlayer.Gzip(t, testlayer.Tar(t, mark(c.change(compared()))...))
			err := layer.Compare(toc, wholeIndex(t, plain, annotations))
			d, is := errors.AsType[*layer.DifferenceError](err)
			if !is || !errors.Is(err, syscall.EIO) || d.Path != c.path || d.What != c.what {
				t.Errorf("%s, %s: Compare = %v, want another %s of %s", format, name, err, c.what, c.path)
			}
		}
	}
}

// wholeIndex is the index of a layer's tar, of which the annotations say what it is.
func wholeIndex(t *testing.T, b []byte, annotations map[string]string) *layer.Index {
	t.Helper()
	ix, err := layer.MakeIndex(t.Context(), bytes.NewReader(b), &layer.Options{TOC: annotations[layer.AnnotationTOC]})
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// TestCompareTimes holds times against each other as exactly as a format has them: of an
// eStargz, to the second, whichever way its maker made whole ones.
func TestCompareTimes(t *testing.T) {
	at := func(nanoseconds int64) []byte {
		f := testlayer.Reg("f", "x")
		f.ModTime = time.Unix(1_700_000_000, nanoseconds)
		return testlayer.Tar(t, f)
	}
	for _, c := range []struct {
		pack func(testing.TB, *testlayer.Chunking, ...testlayer.File) ([]byte, map[string]string)
		said time.Time
		is   int64
		same bool
	}{
		{testlayer.EStargz, time.Unix(1_700_000_000, 0), 0, true},
		{testlayer.EStargz, time.Unix(1_700_000_000, 0), 999_999_999, true},
		{testlayer.EStargz, time.Unix(1_700_000_001, 0), 500_000_000, true},
		{testlayer.EStargz, time.Unix(1_700_000_001, 0), 499_999_999, false},
		{testlayer.EStargz, time.Unix(1_699_999_999, 0), 0, false},
		{testlayer.ZstdChunked, time.Unix(1_700_000_000, 5), 5, true},
		{testlayer.ZstdChunked, time.Unix(1_700_000_000, 5), 6, false},
		{testlayer.ZstdChunked, time.Unix(1_700_000_000, 0), 1, false},
	} {
		f := testlayer.Reg("f", "x")
		f.ModTime = c.said
		b, annotations := c.pack(t, nil, f)
		toc, err := readTOC(t, b, annotations)
		if err != nil {
			t.Fatal(err)
		}
		if err := layer.Compare(toc, makeIndex(t, at(c.is))); (err == nil) != c.same || err != nil && !strings.Contains(err.Error(), "another time") {
			t.Errorf("%v in format %d, and a tar's %d ns: Compare = %v, want it the same: %t", c.said.UTC(), toc.Format, c.is, err, c.same)
		}
	}
}

func wantDifference(t *testing.T, name string, err error, path, what string) {
	t.Helper()
	differs, _ := errors.AsType[*layer.DifferenceError](err)
	switch {
	case what == "" && err != nil, what != "" && differs == nil:
		t.Errorf("%s: Compare = %v, want another %q of %q", name, err, what, path)
	case what != "" && (!errors.Is(err, syscall.EIO) || differs.What != what || differs.Path != path):
		t.Errorf("%s: Compare = %v, want another %q of %q", name, err, what, path)
	}
}

// TestCompareWithoutDigest takes no word for a file of which the table of contents
// has the digests of the chunks alone: they may be any chunks of the layer.
func TestCompareWithoutDigest(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("f", "content"), testlayer.Reg("none", ""))
	for digest, what := range map[string]string{
		"": "content", fmt.Sprintf(`"digest":"sha256:%x",`, sha256.Sum256([]byte("content"))): "",
	} {
		json := toc(fmt.Sprintf(`"type":"reg","name":"f","mode":420,"modtime":%q,"size":7,%s"chunkDigest":%q`, testlayer.Time.UTC().Format(time.RFC3339), digest, sumOfX),
			fmt.Sprintf(`"type":"reg","name":"none","mode":420,"modtime":%q`, testlayer.Time.UTC().Format(time.RFC3339)))
		b, annotations := testlayer.WithEStargzTOC(t, testlayer.Gzip(t, plain), []byte(json), 0)
		ix, err := readTOC(t, b, annotations)
		if err != nil {
			t.Fatal(err)
		}
		wantDifference(t, "eStargz", layer.Compare(ix, makeIndex(t, plain)), "f", what)
	}
}
