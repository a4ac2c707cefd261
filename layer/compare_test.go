package layer_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// TestCompare holds the table of contents of a layer against the tar of one that
// differs in one thing.
func TestCompare(t *testing.T) {
	base := func() map[string]testlayer.File {
		return map[string]testlayer.File{
			"d": testlayer.Dir("d"), "f": testlayer.Reg("d/f", "content"), "h": testlayer.Link("h", "d/f"), "l": testlayer.Symlink("l", "d"),
			"c": {Header: testlayer.Reg("c", "").Header},
		}
	}
	order := []string{"d", "f", "h", "l", "c", "more"}
	list := func(files map[string]testlayer.File) (all []testlayer.File) {
		for _, name := range order {
			if f, ok := files[name]; ok {
				all = append(all, f)
			}
		}
		return all
	}
	for _, c := range []struct {
		path, what string // "" is that they do not differ
		change     func(map[string]testlayer.File)
	}{
		{"", "", func(map[string]testlayer.File) {}},
		{"more", "name", func(files map[string]testlayer.File) { files["more"] = testlayer.Reg("more", "") }},
		{"l", "name", func(files map[string]testlayer.File) { delete(files, "l") }},
		{"l", "type", func(files map[string]testlayer.File) { files["l"] = testlayer.Reg("l", "") }},
		{"d", "type", func(files map[string]testlayer.File) { delete(files, "d") }},
		{"h", "size", func(files map[string]testlayer.File) { files["f"] = testlayer.Reg("d/f", "contents") }},
		{"h", "content", func(files map[string]testlayer.File) { files["f"] = testlayer.Reg("d/f", "CONTENT") }},
		{"d", "mode", func(files map[string]testlayer.File) { f := files["d"]; f.Mode = 0o700; files["d"] = f }},
		{"c", "owner", func(files map[string]testlayer.File) { f := files["c"]; f.Gid = 1; files["c"] = f }},
		{"c", "time", func(files map[string]testlayer.File) {
			f := files["c"]
			f.ModTime = testlayer.Time.Add(time.Second)
			files["c"] = f
		}},
		{"l", "link", func(files map[string]testlayer.File) { files["l"] = testlayer.Symlink("l", "d/") }},
		{"h", "link", func(files map[string]testlayer.File) { files["h"] = testlayer.Reg("h", "content") }},
		{"c", "extended attributes", func(files map[string]testlayer.File) {
			f := files["c"]
			f.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"}
			files["c"] = f
		}},
	} {
		changed := base()
		c.change(changed)
		tar := makeIndex(t, testlayer.Tar(t, list(changed)...))
		for name, make := range map[string]func(testing.TB, *testlayer.Chunking, ...testlayer.File) ([]byte, map[string]string){
			"eStargz": testlayer.EStargz, "zstd:chunked": testlayer.ZstdChunked,
		} {
			b, annotations := make(t, nil, list(base())...)
			toc, err := readTOC(t, b, annotations)
			if err != nil {
				t.Fatal(err)
			}
			wantDifference(t, name, layer.Compare(toc, tar), c.path, c.what)
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
