package layer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// blob is a layer's bytes in memory.
type blob []byte

func (b blob) Size() int64 { return int64(len(b)) }

func (b blob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return bytes.NewReader(b).ReadAt(p, off)
}

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
	n, ok := uint32(0), true
	for name := range strings.SplitSeq(path, "/") {
		if n, ok = ix.Lookup(n, name); !ok {
			tb.Fatalf("no %s", path)
		}
	}
	return ix.Inode(n)
}

func random(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefgh\n"[r.IntN(9)]
	}
	return string(b)
}

// TestContent reads files of each format, in part and as a whole.
func TestContent(t *testing.T) {
	big := random(1, 12<<20)
	plain := testlayer.Tar(t, testlayer.Reg("small", "content"), testlayer.Dir("d"), testlayer.Reg("d/big", big), testlayer.Reg("none", ""))
	for name, b := range map[string][]byte{"tar": plain, "gzip": testlayer.Gzip(t, plain), "zstd": testlayer.Zstd(t, plain)} {
		ix := makeIndex(t, b)
		c := layer.NewContent(ix, blob(b), name, layer.NewCache(64<<20))
		for range 100 {
			off := rand.Int64N(int64(len(big)))
			p := make([]byte, rand.IntN(100<<10))
			n, err := c.ReadAt(t.Context(), find(t, ix, "d/big"), p, off)
			want := big[off:min(int64(len(big)), off+int64(len(p)))]
			if string(p[:n]) != want || err != nil && (!errors.Is(err, io.EOF) || n == len(p)) {
				t.Errorf("%s: %d bytes at %d: %d, %v", name, len(p), off, n, err)
			}
		}
	}
}
