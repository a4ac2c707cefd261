package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// noting is a blob that notes what is read of it.
type noting struct {
	blob
	reads [][2]int64
}

func (n *noting) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n.reads = append(n.reads, [2]int64{off, int64(len(p))})
	return n.blob.ReadAt(ctx, p, off)
}

// readTOC also holds the index to what is kept of it.
func readTOC(tb testing.TB, b []byte, annotations map[string]string) (*layer.Index, error) {
	tb.Helper()
	ix, err := layer.ReadTOC(tb.Context(), blob(b), annotations)
	if err == nil {
		if _, err := layer.DecodeIndex(encode(tb, ix)); err != nil {
			tb.Error(err)
		}
	}
	return ix, err
}

// describe tells the tree of an index with all attributes, times to the second,
// and what its files have, by content.
func describe(t *testing.T, ix *layer.Index, b []byte) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	files := layer.NewContent(ix, blob(b), "", nil)
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		major, minor := ino.Device()
		line := fmt.Sprintf("kind %d %o %d:%d %d:%d %s -> %q x%d %q opaque %t implied %t", ino.Kind, ino.Mode, ino.UID, ino.GID,
			major, minor, ino.ModTime().UTC().Round(time.Second), ino.Link(), ino.Links, ino.Xattrs(), ino.Opaque, ino.Implied)
		if ino.Kind == layer.File {
			text := make([]byte, ino.Size)
			if _, err := files.ReadAt(t.Context(), ino, text, 0); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", ix.Path(uint32(n)), err)
			}
			if ino.Digest != sha256.Sum256(text) {
				t.Errorf("%s has another digest", ix.Path(uint32(n)))
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(text))
		}
		tree[ix.Path(uint32(n))] = line
	}
	return tree
}

// sample has an entry of each kind, and files of one and of many chunks.
func sample() []testlayer.File {
	noise := make([]byte, 10_000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	dev := testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/c", Devmajor: 5, Devminor: 260}}
	fifo := testlayer.File{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/f", Mode: 0o600}}
	owned := testlayer.Reg("usr/bin/su", "set")
	owned.Mode, owned.Uid, owned.Gid = 0o4755, 70_000, 80_000
	owned.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\xff", "SCHILY.xattr.user.b": ""}
	old := testlayer.Reg("old", "before 1970")
	old.ModTime = time.Unix(-5, 500_000_000)
	return []testlayer.File{
		testlayer.Reg(".no.prefetch.landmark", "\x0f"), testlayer.Dir("./"), testlayer.Dir("usr/"), owned, old, dev, fifo,
		testlayer.Reg("noise", string(noise)), testlayer.Reg("holes", "data"+strings.Repeat("\x00", 5000)+"data"), testlayer.Reg("zeros", strings.Repeat("\x00", 64)),
		testlayer.Reg("empty", ""), testlayer.Symlink("usr/l", "../../x"), testlayer.Link("usr/h", "noise"), testlayer.Link("below", "not/here"),
		testlayer.Reg("usr/.wh.gone", ""), testlayer.Reg("lib/.wh..wh..opq", ""), testlayer.Reg("../up", "climbs"), testlayer.Reg("noise", "again"),
	}
}

// TestReadTOC reads what is written in each way that there is, and holds trees
// and contents against each other.
func TestReadTOC(t *testing.T) {
	files := sample()
	first, annotations := testlayer.EStargz(t, nil, files...)
	ix, err := readTOC(t, first, annotations)
	if err != nil {
		t.Fatal(err)
	}
	want := describe(t, ix, first)
	for path, part := range map[string]string{
		".": "kind 2 755 0:0 0:0 2023-11-14 22:13:20", "usr/bin/su": "kind 1 4755 70000:80000", "usr/bin": "implied true", "old": "1969-12-31 23:59:56",
		"dev/c": "5:260", "usr/h": "x1", "below": `-> "not/here"`, "usr/gone": "kind 8", "lib": "opaque true",
		"usr/l": `"../../x"`, "up": "kind 1", "noise": fmt.Sprintf("%x", sha256.Sum256([]byte("again"))),
	} {
		if !strings.Contains(want[path], part) {
			t.Errorf("%s is %q, want %q in it", path, want[path], part)
		}
	}
	for name := range want {
		if strings.Contains(name, "landmark") || strings.Contains(name, ".wh.") {
			t.Errorf("%s is in the tree", name)
		}
	}

	for _, opts := range []testlayer.Chunking{{Size: 1000}, {Size: 500, Footer: 47}, {Size: 100, Member: 500}, {Member: 1 << 20}} {
		b, annotations := testlayer.EStargz(t, &opts, files...)
		compare(t, fmt.Sprintf("eStargz %+v", opts), b, annotations, layer.EStargz, want)
	}
	for _, opts := range []testlayer.Chunking{{}, {Size: 1000}, {Size: 500, Footer: 40}, {Size: 100, Member: 500}, {Footer: 56}} {
		b, annotations := testlayer.ZstdChunked(t, &opts, files...)
		compare(t, fmt.Sprintf("zstd:chunked %+v", opts), b, annotations, layer.ZstdChunked, want)
		const prefix = "io.github.containers.zstd-chunked."
		delete(annotations, prefix+"manifest-position")
		compare(t, fmt.Sprintf("zstd:chunked %+v by its footer", opts), b, annotations, layer.ZstdChunked, want)
		compare(t, fmt.Sprintf("zstd:chunked %+v by old annotations", opts), b, map[string]string{
			"io.containers.zstd-chunked.manifest-checksum": annotations[prefix+"manifest-checksum"],
			"containerd.io/snapshot/stargz/toc.digest":     "sha256:of the JSON",
		}, layer.ZstdChunked, want)
	}
}

// TestTimes has times as exact as the format tells them.
func TestTimes(t *testing.T) {
	old := testlayer.Reg("old", "before 1970")
	old.ModTime = time.Unix(-5, 500_000_001)
	es, estargz := testlayer.EStargz(t, nil, old)
	zs, chunked := testlayer.ZstdChunked(t, nil, old)
	for _, c := range []struct {
		b           []byte
		annotations map[string]string
		want        time.Time
	}{{es, estargz, time.Unix(-4, 0)}, {zs, chunked, old.ModTime}} {
		ix, err := readTOC(t, c.b, c.annotations)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := ix.Lookup(0, "old")
		if got := ix.Inode(n).ModTime(); !got.Equal(c.want) {
			t.Errorf("format %d: modified at %v, want %v", ix.Format, got, c.want)
		}
	}
}

func compare(t *testing.T, what string, b []byte, annotations map[string]string, format layer.Format, want map[string]string) {
	t.Helper()
	if !layer.HasTOC(annotations) {
		t.Errorf("%s: HasTOC = false", what)
	}
	ix, err := readTOC(t, b, annotations)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if ix.View != layer.ViewTOC || ix.Format != format || ix.DiffID != "" {
		t.Errorf("%s: %d, %d, %q", what, ix.View, ix.Format, ix.DiffID)
	}
	if got := describe(t, ix, b); !maps.Equal(got, want) {
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s: %s is\n%s, want\n%s", what, name, got[name], want[name])
			}
		}
	}
}

// TestReads is about what is asked of the blob: mostly one read, and no byte twice.
func TestReads(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 100<<20)
	toc := []byte(`{"version":1,"entries":[]}`)
	var long []byte // does not fit into what is guessed
	for i := range 60_000 {
		long = fmt.Appendf(long, `{"type":"fifo","name":"%x"},`, sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	long = fmt.Appendf(nil, `{"version":1,"entries":[%s]}`, bytes.TrimSuffix(long, []byte(",")))
	for _, c := range []struct {
		what  string
		data  []byte
		toc   []byte
		reads int
		most  int64
	}{
		{"a small layer", big[:1000], toc, 1, 2000},
		{"a large layer", big, toc, 1, 1 << 20},
		{"a long table", big[:1000], long, 2, 10 << 20},
	} {
		b, annotations := testlayer.WithEStargzTOC(t, c.data, c.toc, 0)
		in := &noting{blob: b}
		if _, err := layer.ReadTOC(t.Context(), in, annotations); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		sum, last := int64(0), in.Size()
		for _, r := range in.reads {
			if sum += r[1]; r[0]+r[1] != last {
				t.Errorf("%s: the reads are %d", c.what, in.reads)
			}
			last = r[0]
		}
		if len(in.reads) != c.reads || sum > c.most {
			t.Errorf("%s: %d reads of %d bytes, want %d of at most %d", c.what, len(in.reads), sum, c.reads, c.most)
		}

		b, annotations = testlayer.WithZstdTOC(t, c.data, c.toc, 0)
		in = &noting{blob: b}
		if _, err := layer.ReadTOC(t.Context(), in, annotations); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if got, want := in.reads, [2]int64{int64(len(c.data)) + 8, int64(len(testlayer.Zstd(t, c.toc)))}; len(got) != 1 || got[0] != want {
			t.Errorf("%s: the reads are %d, want %d", c.what, got, want)
		}
	}
}

var errBroken = errors.New("broken")

type broken struct{ layer.Blob }

func (broken) ReadAt(context.Context, []byte, int64) (int, error) { return 0, errBroken }

// TestBlobError has what the blob answers returned as it is.
func TestBlobError(t *testing.T) {
	b, estargz := testlayer.EStargz(t, nil)
	_, chunked := testlayer.ZstdChunked(t, nil)
	for _, annotations := range []map[string]string{estargz, chunked} {
		if _, err := layer.ReadTOC(t.Context(), broken{blob(b)}, annotations); err != errBroken { //nolint:errorlint // it is to be itself
			t.Errorf("ReadTOC = %v, want %v", err, errBroken)
		}
	}
	_, err := readTOC(t, b, nil)
	if _, is := errors.AsType[*layer.TOCError](err); !is || layer.HasTOC(nil) {
		t.Errorf("ReadTOC without annotations = %v, want a *TOCError", err)
	}
}

func BenchmarkReadTOC(b *testing.B) {
	var files []testlayer.File
	for i := range 8000 {
		files = append(files, testlayer.Reg(fmt.Sprintf("usr/share/doc/package-%d/README.%d", i/20, i), fmt.Sprint("some text ", i)))
	}
	layers := make(map[string]blob)
	annotations := make(map[string]map[string]string)
	for name, make := range map[string]func(testing.TB, *testlayer.Chunking, ...testlayer.File) ([]byte, map[string]string){
		"estargz": testlayer.EStargz, "zstdchunked": testlayer.ZstdChunked,
	} {
		layers[name], annotations[name] = make(b, nil, files...)
	}
	for name, l := range layers {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := layer.ReadTOC(b.Context(), l, annotations[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
