package layer_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"path"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// FuzzReader holds entries to what the package promises of them.
func FuzzReader(f *testing.F) {
	plain := testlayer.Tar(f,
		testlayer.Dir("./"), testlayer.Reg("../a/.wh.b", ""), testlayer.Reg("a/.wh..wh..opq", ""), testlayer.Symlink("/l", "../x"),
		testlayer.Link("h", "../../a"), testlayer.Reg(strings.Repeat("long/", 60)+"x", "content"), withXattr("user.a", "b"),
	)
	f.Add(plain)
	f.Add(testlayer.Gzip(f, plain))
	f.Add(testlayer.Zstd(f, plain))
	f.Add(testlayer.Raw("f", 'S', map[int]string{124: "00000000000\x00"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 1 << 20
		l, err := layer.NewReader(bytes.NewReader(b), &layer.Options{MaxBytes: most, MaxEntries: 1000})
		if err != nil {
			return
		}
		defer l.Close()
		var total int64
		for n := 1; ; n++ {
			e, err := l.Next()
			if err != nil {
				return
			}
			check(t, e)
			got, err := io.Copy(io.Discard, l)
			if err == nil && got != e.Size {
				t.Errorf("%q has %d bytes, want its size %d", e.Name, got, e.Size)
			}
			if total += e.Size; total > most || n > 1000 {
				t.Errorf("entry %d makes it %d bytes, want %d at most", n, total, most)
			}
		}
	})
}

// FuzzMakeIndex reads each file of a layer through its index: it has the digest
// that the pass found.
func FuzzMakeIndex(f *testing.F) {
	plain := testlayer.Tar(f, testlayer.Reg("a", "content"), testlayer.Dir("d"), testlayer.Reg("d/b", text(1, 2000)))
	f.Add(plain)
	f.Add(testlayer.Gzip(f, plain))
	f.Add(testlayer.Zstd(f, plain))
	f.Add(bytes.Join([][]byte{skippable(3), testlayer.Zstd(f, plain[:700]), skippable(5000), testlayer.Zstd(f, plain[700:])}, nil))
	for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		parts := make(map[int64]string)
		for i := range int64(30) {
			parts[i*8192] = "x"
		}
		f.Add(sparse(f, 1<<20, parts, args...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ix, err := layer.MakeIndex(t.Context(), bytes.NewReader(b), &layer.Options{MaxBytes: 4 << 20, MaxEntries: 1000})
		if err != nil {
			return
		}
		if err := ix.Encode(io.Discard); err != nil {
			t.Error(err)
		}
		c := layer.NewContent(ix, blob(b), "l", layer.NewCache(8<<20))
		for _, ino := range ix.Inodes.All() {
			if ino.Kind != layer.File {
				continue
			}
			p := make([]byte, ino.Size)
			if n, err := c.ReadAt(t.Context(), ino, p, 0); err != nil && ino.Size > 0 || sha256.Sum256(p) != ino.Digest {
				t.Errorf("%s: %d of %d bytes, error %v, digest %x, want %x", ix.Path(ino.Node), n, ino.Size, err, sha256.Sum256(p), ino.Digest)
			}
		}
	})
}

func check(t *testing.T, e *layer.Entry) {
	t.Helper()
	names := []string{e.Name}
	if e.Kind == layer.Hardlink {
		names = append(names, e.Link)
	}
	for _, name := range names {
		if path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "\x00") {
			t.Errorf("name %q is not clean", name)
		}
		if strings.Count(name, "/") >= layer.MaxDepth || len(name) > 4095 {
			t.Errorf("name %.100q of %d bytes is too long", name, len(name))
		}
	}
	if e.Name == "." && e.Kind != layer.Dir && e.Kind != layer.Opaque {
		t.Errorf("%+v is the root", e)
	}
	if e.Kind == 0 || e.Size < 0 || e.Kind != layer.File && e.Size != 0 || e.Mode > 0o7777 {
		t.Errorf("%+v makes no sense", e)
	}
}
