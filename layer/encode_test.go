package layer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/google/go-cmp/cmp"
)

func encode(tb testing.TB, ix *layer.Index) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := ix.Encode(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// varied is a layer with something of all that an Index can have.
func varied(tb testing.TB) *layer.Index {
	tb.Helper()
	attributes := testlayer.Reg("a/b/attributes", text(9, 3<<20))
	attributes.PAXRecords = map[string]string{"SCHILY.xattr.user.b": "2\x00", "SCHILY.xattr.user.a": "", "SCHILY.xattr.security.capability": "x"}
	attributes.Mode, attributes.Uid, attributes.Gid = 0o4751, 1<<32-2, 77
	device := testlayer.Reg("dev/null", "")
	device.Typeflag, device.Devmajor, device.Devminor = '3', 1, 3
	return makeIndex(tb, testlayer.Gzip(tb, testlayer.Tar(tb,
		attributes, testlayer.Link("z/h", "a/b/attributes"), testlayer.Link("lower", "usr/nowhere"), testlayer.Symlink("l", "/a"), device,
		testlayer.Reg(".wh.gone", ""), testlayer.Reg("opaque/x", ""), testlayer.Reg("opaque/.wh..wh..opq", ""), testlayer.Reg("ghost/.wh.x", ""),
		testlayer.Reg("twice", "1"), testlayer.Reg("twice", "22"))))
}

// indexes are some of each kind, by name.
func indexes(tb testing.TB) map[string]*layer.Index {
	tb.Helper()
	holes := map[int64]string{1 << 20: "x", 3 << 20: "y"}
	chunks := decodedSpan(layer.ZstdAt, 100, 3, 1000, "content")
	chunks.Spans = append(chunks.Spans, layer.Span{Kind: layer.Zeros, Off: 7, Out: 1000, Size: 1 << 40}, layer.Span{Kind: layer.GzipAt, Off: 3, Len: 9, Out: 1000 + 1<<40, Size: 1, Decoded: true})
	chunks.Length += 1<<40 + 1
	return map[string]*layer.Index{
		"varied": varied(tb), "chunks": chunks,
		"holes":    makeIndex(tb, sparse(tb, 4<<20, holes, "--format=gnu")),
		"all hole": makeIndex(tb, sparse(tb, 1<<40-100, nil, "--format=pax")),
		"empty":    makeIndex(tb, testlayer.Zstd(tb, testlayer.Tar(tb))),
		"apart":    makeIndex(tb, inFormats(tb, testlayer.Tar(tb, testlayer.Reg("f", text(1, 3<<20))))["zstd apart"]),
	}
}

// TestEncode keeps all of an Index, each time as the same bytes.
func TestEncode(t *testing.T) {
	for name, ix := range indexes(t) {
		b := encode(t, ix)
		got, err := layer.DecodeIndex(bytes.Clone(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(ix, got); diff != "" {
			t.Errorf("%s (want, got):\n%s", name, diff)
		}
		if !bytes.Equal(encode(t, got), b) {
			t.Errorf("%s: other bytes the second time", name)
		}
	}
}

// TestEncodeRefuses keeps nothing that could not be read again.
func TestEncodeRefuses(t *testing.T) {
	for name, change := range map[string]func(ix *layer.Index){
		"no node":           func(ix *layer.Index) { ix.Nodes = nil },
		"a loop":            func(ix *layer.Index) { ix.Nodes[0].First = 0 },
		"too many children": func(ix *layer.Index) { ix.Nodes[0].Count = 1 << 31 },
		"children of a file": func(ix *layer.Index) {
			ix.Nodes = append(ix.Nodes, layer.Node{Name: "x", Parent: 1, First: 3})
			ix.Nodes[1].Count = 1
		},
		"a name of two":     func(ix *layer.Index) { ix.Nodes[1].Name = "a/b" },
		"..":                func(ix *layer.Index) { ix.Nodes[1].Name = ".." },
		"no name":           func(ix *layer.Index) { ix.Nodes[1].Name = "" },
		"no inode":          func(ix *layer.Index) { ix.Nodes[1].Inode = 2 },
		"a stray inode":     func(ix *layer.Index) { ix.Inodes.Add(layer.Inode{Kind: layer.File, Links: 1}) },
		"a directory twice": func(ix *layer.Index) { ix.Nodes[1].Inode = 0 },
		"a kind":            func(ix *layer.Index) { ix.Inodes.At(1).Kind = layer.Opaque },
		"a file too long":   func(ix *layer.Index) { ix.Inodes.At(1).Size++ },
		"a file too far":    func(ix *layer.Index) { ix.Inodes.At(1).Offset = 1<<63 - 1 },
		"a file too early":  func(ix *layer.Index) { ix.Inodes.At(1).Offset = -1 },
		"segments that cross": func(ix *layer.Index) {
			ix.Inodes.At(1).Extra = &layer.Extra{Data: []layer.Segment{{At: 5, Length: 5}, {At: 8, Length: 1}}}
		},
		"a segment too far": func(ix *layer.Index) {
			ix.Inodes.At(1).Extra = &layer.Extra{Data: []layer.Segment{{At: 5, Length: 5, Offset: 1<<63 - 5}}}
		},
		"a gap":                func(ix *layer.Index) { ix.Spans[0].Out = 1 },
		"a span that is short": func(ix *layer.Index) { ix.Spans[0].Size-- },
		"an endless span":      func(ix *layer.Index) { ix.Spans[0].Off = 1<<63 - 1 },
		"nine bits":            func(ix *layer.Index) { ix.Spans[0].Bits = 9 },
		"a digest":             func(ix *layer.Index) { ix.DiffID = "sha256:x" },
	} {
		ix := decodedSpan(layer.GzipAt, 100, 0, 1000, "content")
		change(ix)
		var b bytes.Buffer
		if err := ix.Encode(&b); !errors.Is(err, syscall.EINVAL) || b.Len() > 0 {
			t.Errorf("%s: %d bytes, error %v", name, b.Len(), err)
		}
	}
}

// resum has b end in the checksum of what is before it.
func resum(b []byte) []byte {
	body := b[:max(len(b)-sha256.Size, 0)]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// TestDecodeDamaged refuses what was changed, and what is a part of an index.
func TestDecodeDamaged(t *testing.T) {
	b := encode(t, varied(t))
	for range 200 {
		other := bytes.Clone(b)
		other[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
		cut := b[:rand.IntN(len(b))]
		for _, b := range [][]byte{other, cut, resum(cut), append(bytes.Clone(b), 0)} {
			if ix, err := layer.DecodeIndex(b); ix != nil || !errors.Is(err, syscall.EINVAL) {
				t.Fatalf("%d bytes: %v, want %v", len(b), err, syscall.EINVAL)
			}
		}
	}
}

// TestDecodeManyDigests refuses so many digests that their bytes are no number.
func TestDecodeManyDigests(t *testing.T) {
	b := encode(t, decodedSpan(layer.GzipAt, 100, 0, 1000, "content"))
	at := len("distfs layer index 2\n") + len("\x01\x00\x00") + len("\xe8\x07\x01\x02\x02")
	if b[at] != 0 {
		t.Fatalf("%q does not begin with no digests", b[at:])
	}
	many := append(bytes.Clone(b[:at]), binary.AppendUvarint(nil, 1<<59)...)
	if ix, err := layer.DecodeIndex(resum(append(many, b[at+1:]...))); ix != nil || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("DecodeIndex = %v, want %v", err, syscall.EINVAL)
	}
}

// FuzzDecodeIndex decodes what has a right checksum, and then does with it what
// can be done.
func FuzzDecodeIndex(f *testing.F) {
	for _, ix := range indexes(f) {
		f.Add(encode(f, ix))
	}
	for _, file := range []testlayer.File{ // so small that their trees are not compressed
		testlayer.Reg("f", "x"), testlayer.Reg("d/e/f", ""), testlayer.Link("h", "g"), testlayer.Symlink("l", "a"),
		testlayer.Reg(".wh.x", ""), testlayer.Reg("d/.wh..wh..opq", ""), withXattr("user.a", "b"),
	} {
		f.Add(encode(f, makeIndex(f, testlayer.Tar(f, file))))
		f.Add(encode(f, makeIndex(f, testlayer.Tar(f, file, testlayer.Link("again", file.Name)))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ix, err := layer.DecodeIndex(resum(b))
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20+2000*uint64(len(b)) {
			t.Errorf("%d bytes took %d", len(b), took)
		}
		if err != nil {
			return
		}
		c := layer.NewContent(ix, blob(b), "l", nil)
		p := make([]byte, 100)
		for n := range ix.Nodes {
			path := ix.Path(uint32(n))
			if at, ok := ix.Lookup(ix.Nodes[n].Parent, ix.Nodes[n].Name); n > 0 && (!ok || at != uint32(n)) || strings.Contains(path, "//") {
				t.Errorf("node %d is not where it is", n)
			}
			if ino := ix.Inode(uint32(n)); ino.Kind == layer.File && ino.Size > 0 {
				for _, off := range []int64{0, ino.Size / 2, ino.Size - 1} {
					if m, err := c.ReadAt(t.Context(), ino, p, off); m == 0 && err == nil {
						t.Errorf("node %d at %d: nothing, and no error", n, off)
					}
				}
			}
		}
		again, err := layer.DecodeIndex(encode(t, ix))
		if diff := cmp.Diff(ix, again); diff != "" || err != nil {
			t.Errorf("error %v, (want, got):\n%s", err, diff)
		}
	})
}
