package layer_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/klauspost/compress/gzip"
)

// benchLayer is a tar of 64 MiB, or that in the file DISTFS_BENCH_TAR.
func benchLayer(b *testing.B) []byte {
	b.Helper()
	if name := os.Getenv("DISTFS_BENCH_TAR"); name != "" {
		plain, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return plain
	}
	var files []testlayer.File
	for i := range 2000 {
		files = append(files, testlayer.Reg(fmt.Sprintf("usr/share/d%d/file%d", i/50, i), text(uint64(i), 32<<10)))
	}
	return testlayer.Tar(b, files...)
}

// BenchmarkMakeIndex is the pass, with its parts by themselves: what decompresses,
// what hashes, what the others take. MB/s are of the tar.
func BenchmarkMakeIndex(b *testing.B) {
	plain := benchLayer(b)
	forms := map[string][]byte{"tar": plain, "gzip": testlayer.Gzip(b, plain), "zstd": testlayer.Zstd(b, plain)}
	run := func(name string, pass func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if err := pass(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, name := range []string{"tar", "gzip", "zstd"} {
		run(name, func() error {
			_, err := layer.MakeIndex(b.Context(), bytes.NewReader(forms[name]), nil)
			return err
		})
	}
	run("part=sha256", func() error {
		sha256.Sum256(plain)
		return nil
	})
	run("part=decompress", func() error {
		r, err := layer.Decompress(bytes.NewReader(forms["gzip"]))
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	})
	run("part=gunzip", func() error {
		r, err := gzip.NewReader(bytes.NewReader(forms["gzip"]))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		return err
	})
}

// BenchmarkReadAt reads 4 KiB at random places, of spans that are not in the
// cache, and of those that are.
func BenchmarkReadAt(b *testing.B) {
	plain := testlayer.Tar(b, testlayer.Reg("f", text(1, 64<<20)))
	for name, form := range map[string][]byte{"tar": plain, "gzip": testlayer.Gzip(b, plain)} {
		ix := makeIndex(b, form)
		for _, kept := range []int64{0, 128 << 20} {
			b.Run(fmt.Sprintf("%s/cache=%dM", name, kept>>20), func(b *testing.B) {
				c := layer.NewContent(ix, blob(form), name, layer.NewCache(kept))
				p := make([]byte, 4<<10)
				for b.Loop() {
					if _, err := c.ReadAt(b.Context(), find(b, ix, "f"), p, rand.Int64N(64<<20-4<<10)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDecodeIndex decodes the index of a layer of many files.
func BenchmarkDecodeIndex(b *testing.B) {
	form := testlayer.Gzip(b, benchLayer(b))
	ix := makeIndex(b, form)
	kept := encode(b, ix)
	for b.Loop() {
		if _, err := layer.DecodeIndex(kept); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(kept))/float64(len(form))*100, "%-of-layer")
	b.ReportMetric(float64(len(ix.Nodes)), "nodes")
}

// BenchmarkChunk reads a small chunk of a table of contents.
func BenchmarkChunk(b *testing.B) {
	content := text(1, 4<<10)
	for name, form := range map[layer.SpanKind][]byte{layer.GzipAt: testlayer.Gzip(b, []byte(content)), layer.ZstdAt: testlayer.Zstd(b, []byte(content))} {
		ix := decodedSpan(name, len(form), 0, int64(len(content)), content)
		c := layer.NewContent(ix, blob(form), "l", nil)
		b.Run(fmt.Sprintf("kind=%d", name), func(b *testing.B) {
			b.ReportAllocs()
			p := make([]byte, len(content))
			for b.Loop() {
				if _, err := c.ReadAt(b.Context(), find(b, ix, "f"), p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
