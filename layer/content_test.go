package layer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/klauspost/compress/zstd"
)

// blob is a layer's bytes in memory.
type blob = testlayer.Blob

// text returns n bytes that compress somewhat, here more and there less, so that
// they are deflated in blocks of the usual length.
func text(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	letters := 0
	for i := range b {
		if i%(64<<10) == 0 {
			letters = 2 + r.IntN(60)
		}
		b[i] = byte(' ' + r.IntN(letters))
	}
	return string(b)
}

// TestContent reads files of each format at random places.
func TestContent(t *testing.T) {
	big, small := text(1, 12<<20), "content"
	plain := testlayer.Tar(t, testlayer.Reg("small", small), testlayer.Reg("big", big), testlayer.Reg("none", ""))
	for name, b := range inFormats(t, plain) {
		ix := makeIndex(t, b)
		for _, cache := range []*layer.Cache{nil, layer.NewCache(5 << 20), layer.NewCache(64 << 20)} {
			c := layer.NewContent(ix, blob(b), name, cache)
			for path, want := range map[string]string{"small": small, "big": big, "none": ""} {
				ino := find(t, ix, path)
				for i := range 4 {
					off := rand.Int64N(int64(len(want)) + 1)
					p := make([]byte, rand.IntN(200<<10<<i)) // up to 1.6 MiB
					n, err := c.ReadAt(t.Context(), ino, p, off)
					want := want[off:min(int64(len(want)), off+int64(len(p)))]
					if string(p[:n]) != want || err != nil && !errors.Is(err, io.EOF) || n < len(p) && err == nil {
						t.Errorf("%s: %d bytes of %s at %d: %d, %v, want %d", name, len(p), path, off, n, err, len(want))
					}
				}
			}
		}
	}
}

// TestSpans asks of a gzip no more than the spans in which a file lies, and inflates from
// the nearest point.
func TestSpans(t *testing.T) {
	big := text(9, 40<<20)
	b := testlayer.Gzip(t, testlayer.Tar(t, testlayer.Reg("first", "content"), testlayer.Reg("big", big), testlayer.Reg("last", "content")))
	ix := makeIndex(t, b)
	most := int64(0)
	for _, s := range ix.Spans {
		most = max(most, s.Len)
	}
	if most > int64(len(b))/5 {
		t.Fatalf("of %d bytes the longest of %d spans has %d", len(b), len(ix.Spans), most)
	}
	for path, off := range map[string]int64{"first": 0, "last": 0, "big": 25 << 20} {
		counted := &faulty{blob: b}
		p := make([]byte, 7)
		if n, err := layer.NewContent(ix, counted, "l", nil).ReadAt(t.Context(), find(t, ix, path), p, off); n < len(p) {
			t.Fatal(n, err)
		}
		want := "content"
		if path == "big" {
			want = big[off:][:7]
		}
		if string(p) != want {
			t.Errorf("%s at %d is %q, want %q", path, off, p, want)
		}
		if n := counted.bytes.Load(); n > 2*most {
			t.Errorf("%d bytes were read for 7 of %s, the longest span has %d", n, path, most)
		}
	}
}

// TestReadingOn reads a large span piece by piece and asks the blob for each byte
// no more than twice.
func TestReadingOn(t *testing.T) {
	big := text(4, 16<<20)
	b := testlayer.Zstd(t, testlayer.Tar(t, testlayer.Reg("big", big)))
	ix := makeIndex(t, b)
	counted := &faulty{blob: b}
	c := layer.NewContent(ix, counted, "l", layer.NewCache(1))
	got := make([]byte, len(big))
	for off := 0; off < len(got); off += 128 << 10 {
		if n, err := c.ReadAt(t.Context(), find(t, ix, "big"), got[off:][:128<<10], int64(off)); n != 128<<10 || err != nil {
			t.Fatal(n, err)
		}
	}
	if string(got) != big || len(ix.Spans) != 1 || counted.bytes.Load() > 2*int64(len(b)) {
		t.Errorf("%d spans, %d bytes were read of a blob of %d", len(ix.Spans), counted.bytes.Load(), len(b))
	}
}

// faulty is a blob that can be made to go wrong.
type faulty struct {
	blob
	bytes atomic.Int64 // that were read
	hook  func(ctx context.Context, p []byte, off int64) error
}

func (f *faulty) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.blob.ReadAt(ctx, p, off)
	f.bytes.Add(int64(n))
	if f.hook != nil {
		if err := f.hook(ctx, p[:n], off); err != nil {
			return 0, err
		}
	}
	return n, err
}

// TestDamage changes a byte here and there: what is read is right or a DamageError.
func TestDamage(t *testing.T) {
	big := text(5, 9<<20)
	plain := testlayer.Tar(t, testlayer.Reg("big", big))
	for name, b := range inFormats(t, plain) {
		ix := makeIndex(t, b)
		failed := 0
		for range 6 {
			at := int64(rand.IntN(len(b)))
			f := &faulty{blob: b, hook: func(_ context.Context, p []byte, off int64) error {
				if at >= off && at < off+int64(len(p)) {
					p[at-off] ^= 1 << rand.IntN(8)
				}
				return nil
			}}
			c := layer.NewContent(ix, f, name, layer.NewCache(64<<20))
			got := make([]byte, 1<<20)
			for off := int64(0); off < int64(len(big)); off += int64(len(got)) {
				n, err := c.ReadAt(t.Context(), find(t, ix, "big"), got, off)
				if err != nil {
					failed++
				}
				_, damaged := errors.AsType[*layer.DamageError](err)
				if string(got[:n]) != big[off:][:n] || err != nil && !damaged || err == nil && n < len(got) {
					t.Fatalf("%s, byte %d wrong: %d bytes at %d, %v", name, at, n, off, err)
				}
			}
		}
		if failed == 0 {
			t.Errorf("%s: no read failed", name)
		}
	}
}

// TestChange changes a large span after its digest matched.
func TestChange(t *testing.T) {
	b := testlayer.Zstd(t, testlayer.Tar(t, testlayer.Reg("big", text(6, 12<<20))))
	ix := makeIndex(t, b)
	f := &faulty{blob: b}
	read := int64(0)
	f.hook = func(_ context.Context, p []byte, _ int64) error {
		if read += int64(len(p)); read > ix.Spans[0].Len {
			p[0] ^= 1
		}
		return nil
	}
	_, err := layer.NewContent(ix, f, "l", nil).ReadAt(t.Context(), find(t, ix, "big"), make([]byte, 10), 10<<20)
	if _, damaged := errors.AsType[*layer.DamageError](err); !damaged || !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v, want a DamageError that is %v", err, syscall.EIO)
	}
}

// decodedSpan is an index of one file in one span that has a digest of what it
// decodes to.
func decodedSpan(kind layer.SpanKind, length int, skip, size int64, content string) *layer.Index {
	file := layer.Inode{Kind: layer.File, Node: 1, Links: 1, Size: size}
	return &layer.Index{
		View:   layer.ViewTOC,
		Nodes:  []layer.Node{{First: 1, Count: 1}, {Name: "f", Inode: 1, First: 2}},
		Inodes: layer.Inodes{{{Kind: layer.Dir, Implied: true, Links: 1}, file}},
		Spans: []layer.Span{{
			Kind: kind, Len: int64(length), Skip: skip, Size: size, Digest: sha256.Sum256([]byte(content)), Decoded: true,
		}},
		Length: size,
	}
}

// TestDecoded reads chunks of a table of contents, small ones and large ones, and
// none that is other than it says.
func TestDecoded(t *testing.T) {
	for _, n := range []int{1000, 9 << 20} {
		content := text(7, n)
		for kind, b := range map[layer.SpanKind][]byte{
			layer.Stored: []byte(content), layer.GzipAt: testlayer.Gzip(t, []byte(content)), layer.ZstdAt: testlayer.Zstd(t, []byte(content)),
		} {
			read := func(b []byte, ix *layer.Index, off int64) (string, error) {
				p := make([]byte, 100)
				m, err := layer.NewContent(ix, blob(b), "l", layer.NewCache(64<<20)).ReadAt(t.Context(), find(t, ix, "f"), p, off)
				return string(p[:m]), err
			}
			half := int64(n / 2)
			if got, err := read(b, decodedSpan(kind, len(b), 0, int64(n), content), half); got != content[half:][:100] || err != nil {
				t.Errorf("kind %d of %d: %.10q, %v", kind, n, got, err)
			}
			for name, ix := range map[string]*layer.Index{
				"longer":  decodedSpan(kind, len(b), 0, int64(n)+1, content),
				"shorter": decodedSpan(kind, len(b), 0, int64(n)-1, content),
				"other":   decodedSpan(kind, len(b), 0, int64(n), content+"x"),
				"cut":     decodedSpan(kind, len(b)-100, 0, int64(n), content),
				"beyond":  decodedSpan(kind, len(b)+1, 0, int64(n)+1, content+"\x00"),
			} {
				if got, err := read(b, ix, half); got != "" || !errors.Is(err, syscall.EIO) {
					t.Errorf("kind %d of %d, %s: %.10q, %v", kind, n, name, got, err)
				}
			}
			if kind == layer.Stored {
				continue
			}
			if got, err := read(b, decodedSpan(kind, len(b), 300, 200, content[300:500]), 50); got != content[350:450] || err != nil {
				t.Errorf("kind %d of %d, in its middle: %.10q, %v", kind, n, got, err)
			}
		}
	}
}

// TestTwoIndexes reads one layer by its tar and by its table of contents, which have
// other spans of the same numbers, with one cache.
func TestTwoIndexes(t *testing.T) {
	small, big := "content", text(9, 3<<20)
	b, annotations := testlayer.EStargz(t, nil, testlayer.Reg("small", small), testlayer.Reg("big", big))
	toc, err := readTOC(t, b, annotations)
	if err != nil {
		t.Fatal(err)
	}
	cache := layer.NewCache(64 << 20)
	for range 2 {
		for _, ix := range []*layer.Index{makeIndex(t, b), toc} {
			c := layer.NewContent(ix, blob(b), "l", cache)
			for path, want := range map[string]string{"small": small, "big": big} {
				got := make([]byte, len(want))
				if _, err := c.ReadAt(t.Context(), find(t, ix, path), got, 0); err != nil || string(got) != want {
					t.Errorf("view %d: %s is %.20q, %v, want %.20q", ix.View, path, got, err, want)
				}
			}
		}
	}
}

// TestZeros reads what is nowhere.
func TestZeros(t *testing.T) {
	ix := decodedSpan(layer.Zeros, 0, 0, 1<<40, "")
	p := []byte("xxxxx")
	if n, err := layer.NewContent(ix, blob(nil), "l", nil).ReadAt(t.Context(), find(t, ix, "f"), p, 1<<40-3); n != 3 || string(p) != "\x00\x00\x00xx" || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes %q, %v", n, p, err)
	}
}

// TestSharing has many read one span, which is fetched once, and those leave whose
// context ends.
func TestSharing(t *testing.T) {
	want := text(8, 1<<20)
	b := testlayer.Gzip(t, testlayer.Tar(t, testlayer.Reg("f", want)))
	ix := makeIndex(t, b)
	release := make(chan struct{})
	f := &faulty{blob: b}
	begun := make(chan struct{}, 1)
	f.hook = func(ctx context.Context, _ []byte, _ int64) error {
		begun <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c := layer.NewContent(ix, f, "l", layer.NewCache(64<<20))
	read := func(ctx context.Context) error {
		p := make([]byte, 1000)
		n, err := c.ReadAt(ctx, find(t, ix, "f"), p, 5000)
		if err == nil && string(p[:n]) != want[5000:6000] {
			return fmt.Errorf("read %.20q", p[:n])
		}
		return err
	}
	// The only one leaves: the work ends with it, and who comes next begins anew.
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- read(ctx) }()
	<-begun
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left has %v", err)
	}
	// The first leaves, and the others get what it asked for.
	ctx, cancel = context.WithCancel(t.Context())
	go func() { left <- read(ctx) }()
	<-begun
	before := f.bytes.Load()
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			if err := read(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	err := <-left
	close(release)
	others.Wait()
	if !errors.Is(err, context.Canceled) || f.bytes.Load()-before > ix.Spans[0].Len {
		t.Errorf("who left has %v; %d bytes were read, want %d", err, f.bytes.Load()-before, ix.Spans[0].Len)
	}
}

// TestNoContent refuses what is no file's content, and has the blob's errors as
// they are.
func TestNoContent(t *testing.T) {
	b := testlayer.Zstd(t, testlayer.Tar(t, testlayer.Dir("d"), testlayer.Reg("f", strings.Repeat("x", 20<<20))))
	ix := makeIndex(t, b)
	lost := errors.New("lost")
	f := &faulty{blob: b, hook: func(context.Context, []byte, int64) error { return lost }}
	c := layer.NewContent(ix, f, "l", nil)
	for _, call := range []struct {
		path string
		off  int64
		want error
	}{{"d", 0, syscall.EINVAL}, {"f", -1, syscall.EINVAL}, {"f", 20 << 20, io.EOF}, {"f", 1 << 20, lost}} {
		if n, err := c.ReadAt(t.Context(), find(t, ix, call.path), make([]byte, 1), call.off); n != 0 || !errors.Is(err, call.want) {
			t.Errorf("%s at %d: %d, %v, want %v", call.path, call.off, n, err, call.want)
		}
	}
}

// TestLargeWindow reads a small layer whose frame asks for a large window, as zstd
// --long and skopeo have it.
func TestLargeWindow(t *testing.T) {
	text := strings.Repeat("what compresses well. ", 10_000)
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(32<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := testlayer.WriteTar(w, testlayer.Reg("f", text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ix, err := layer.MakeIndex(t.Context(), bytes.NewReader(b.Bytes()), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := ix.Lookup(0, "f")
	if !ok {
		t.Fatal("no f")
	}
	got := make([]byte, len(text))
	if _, err := layer.NewContent(ix, blob(b.Bytes()), "", nil).ReadAt(t.Context(), ix.Inode(n), got, 0); err != nil || string(got) != text {
		t.Errorf("%v, %t", err, string(got) == text)
	}
}

// TestVerifies says of a file whether the digest of what it is read from is its own.
func TestVerifies(t *testing.T) {
	own, other := digestOf("content"), digestOf("another")
	for name, tt := range map[string]struct {
		digest, chunk string
		want          bool
	}{
		"its own": {own, own, true}, "another": {other, own, false}, "that of a chunk alone": {"", own, false},
	} {
		entry := fmt.Sprintf(`"type":"reg","name":"f","mode":420,"size":7,"offset":0,"chunkDigest":%q`, tt.chunk)
		if tt.digest != "" {
			entry += fmt.Sprintf(`,"digest":%q`, tt.digest)
		}
		b, annotations := testlayer.WithEStargzTOC(t, testlayer.Gzip(t, []byte("content")), []byte(toc(entry)), 0)
		ix, err := readTOC(t, b, annotations)
		if err != nil {
			t.Fatal(err)
		}
		for _, ino := range ix.Inodes.All() {
			if ino.Kind == layer.File && ix.Verifies(ino) != tt.want {
				t.Errorf("%s: Verifies = %v, want %v", name, !tt.want, tt.want)
			}
		}
	}
	if ix := makeIndex(t, testlayer.Tar(t, testlayer.Reg("f", "content"))); ix.Verifies(ix.Inode(1)) {
		t.Error("a file in a span of many is verified by its digest")
	}
}

func digestOf(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
