package layer_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"pgregory.net/rapid"

	"distfs/layer"
)

func TestGunzip(t *testing.T) {
	a, b := gzipped(t, "aaa"), gzipped(t, "bb")
	full := append([]byte("\x1f\x8b\x08\x1e\x01\x02\x03\x04\x02\x03\x05\x00extraname\x00comment\x00"), 0, 0)
	sum := crc32.ChecksumIEEE(full[:len(full)-2])
	full[len(full)-2], full[len(full)-1] = byte(sum), byte(sum>>8)
	wrong := bytes.Clone(full)
	wrong[len(wrong)-1] ^= 1
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[(at+len(b))%len(b)] ^= to
		return b
	}
	copies := member(bits(fixed, "0000001", "00000", "0000000"), "aaa")
	for name, test := range map[string]struct {
		in   []byte
		want string
		at   int // where it is corrupt; 0 for nowhere
	}{
		"empty":                        {gzipped(t, ""), "", 0},
		"two members":                  {join(a, b), "aaabb", 0},
		"a header with all there is":   {join(full, a[10:], full, b[10:]), "aaabb", 0},
		"a copy from another member":   {join(a, copies), "aaa", len(a) + 11},
		"zeros behind":                 {join(a, make([]byte, 100_000)), "aaa", 0},
		"a wrong header checksum":      {join(a, wrong, b[10:]), "aaa", len(a) + len(full)},
		"a flag that nobody knows":     {change(a, 3, 0x20), "", 10},
		"a wrong checksum":             {change(a, -6, 1), "aaa", len(a) - 8},
		"a wrong size":                 {change(a, -1, 1), "aaa", len(a) - 8},
		"no gzip":                      {[]byte("no gzip at all"), "", 1},
		"another method":               {change(a, 2, 1), "", 3},
		"zeros in front":               {join([]byte{0}, a), "", 1},
		"a member behind zeros":        {join(a, make([]byte, 1000), b), "aaa", len(a) + 1000},
		"something behind":             {join(a, []byte("something")), "aaa", len(a) + 1},
		"something behind a few zeros": {join(a, []byte{0, 0, 1}), "aaa", len(a) + 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := gunzip(test.in)
			at, _ := layer.CorruptAt(err)
			if got != test.want || at != int64(test.at) || (err != nil) != (test.at != 0) {
				t.Errorf("got %q, %v, want %q and an error at %d", got, err, test.want, test.at)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the error is %v, want none that says that it is cut short", err)
			}
		})
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestGunzipCut cuts streams everywhere: what was whole comes, then the error.
func TestGunzipCut(t *testing.T) {
	const text = "the quick brown fox jumps over the lazy dog, the quick brown fox jumps over the lazy dog"
	first := join([]byte("\x1f\x8b\x08\x1c\x00\x00\x00\x00\x00\xff\x02\x00exname\x00comment\x00"), gzipped(t, text)[10:])
	stored := join(member(nil, "")[:10], []byte("\x01\x03\x00\xfc\xffabc"), member(nil, "abc")[10:])
	for name, b := range map[string][]byte{"fields": first, "stored": stored, "dynamic": gzipped(t, string(far()[:600])), "members": join(first, stored)} {
		whole, err := gunzip(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range b {
			if name == "members" && n == len(first) {
				continue
			}
			got, err := gunzip(b[:n])
			at, _ := layer.CorruptAt(err)
			if !bytes.HasPrefix([]byte(whole), []byte(got)) || !errors.Is(err, io.ErrUnexpectedEOF) || at != int64(n) {
				t.Errorf("%s: the first %d of %d bytes gave %q, %v, want the begin of %q and that it is cut short there", name, n, len(b), got, err, whole)
			}
		}
	}
}

// An archive is a gzip stream as some writer made it, and what is in it.
type archive struct {
	blob    []byte
	content []byte
	members []int // where in content each member begins
}

// data draws what compresses into all kinds of blocks.
func data(t *rapid.T) []byte {
	var b []byte
	for range rapid.IntRange(0, 6).Draw(t, "pieces") {
		n := rapid.SampledFrom([]int{1, 10, 300, 5_000, 70_000}).Draw(t, "length")
		seed := rapid.Uint32().Draw(t, "seed")
		alphabet := rapid.SampledFrom([]uint32{1, 3, 20, 256}).Draw(t, "alphabet")
		if from := int(seed) % (len(b) + 1); alphabet == 20 && from < len(b) {
			b = append(b, b[from:min(from+n, len(b))]...)
			continue
		}
		for range n {
			seed = seed*1664525 + 1013904223
			b = append(b, byte(seed>>24%alphabet))
		}
	}
	return b
}

// A compressor is what all gzip writers are.
type compressor interface {
	io.WriteCloser
	Flush() error
}

func drawArchive(t *rapid.T) archive {
	var a archive
	var blob bytes.Buffer
	for range rapid.IntRange(1, 4).Draw(t, "members") {
		var w compressor
		level := rapid.IntRange(-2, 9).Draw(t, "level")
		if rapid.Bool().Draw(t, "klauspost") {
			w, _ = gzip.NewWriterLevel(&blob, level)
		} else {
			w = stdWriter(&blob, level)
		}
		a.members = append(a.members, len(a.content))
		for range rapid.IntRange(0, 3).Draw(t, "writes") {
			b := data(t)
			a.content = append(a.content, b...)
			w.Write(b)
			if rapid.Bool().Draw(t, "flush") {
				w.Flush()
			}
		}
		w.Close()
	}
	blob.Write(make([]byte, rapid.SampledFrom([]int{0, 0, 1, 70_000}).Draw(t, "padding")))
	a.blob = blob.Bytes()
	return a
}

// window returns what may be copied from at out.
func (a archive) window(out int64) []byte {
	begin := 0
	for _, m := range a.members {
		if int64(m) < out {
			begin = m
		}
	}
	return a.content[max(begin, int(out)-32<<10):out]
}

// TestPoints goes on from every point, and to every one.
func TestPoints(t *testing.T) { rapid.Check(t, checkPoints) }

func checkPoints(t *rapid.T) {
	a := drawArchive(t)
	every := rapid.SampledFrom([]int64{1, 1000, 30_000, 200_000}).Draw(t, "every")
	var raw bytes.Buffer
	var points []layer.Point
	got, err := io.ReadAll(layer.Gunzip(bytes.NewReader(a.blob), every, &raw, func(p layer.Point) error {
		if !bytes.Equal(raw.Bytes(), a.blob[:p.In]) {
			t.Errorf("raw has %d bytes at %d", raw.Len(), p.In)
		}
		if p.Bits != 0 && p.Partial != a.blob[p.In] {
			t.Errorf("the partial byte at %d is %#x, want %#x", p.In, p.Partial, a.blob[p.In])
		}
		if p.Header != bytes.HasPrefix(a.blob[p.In:], []byte{0x1f, 0x8b, 8}) && p.Bits == 0 {
			t.Errorf("is there a header at %d? %v", p.In, p.Header)
		}
		if !p.Header && !bytes.Equal(p.Window, a.window(p.Out)) {
			t.Errorf("the window at %d is of %d bytes, want %d or others", p.In, len(p.Window), len(a.window(p.Out)))
		}
		if len(points) > 0 && p.Out < points[len(points)-1].Out+every {
			t.Errorf("there is a point at %d of what is inflated, and the one before at %d", p.Out, points[len(points)-1].Out)
		}
		p.Window = bytes.Clone(p.Window)
		points = append(points, p)
		return nil
	}))
	if err != nil || !bytes.Equal(got, a.content) {
		t.Fatalf("got %d bytes, %v, want %d or others", len(got), err, len(a.content))
	}
	if !bytes.Equal(raw.Bytes(), a.blob) {
		t.Errorf("raw got %d bytes, want the blob's %d", raw.Len(), len(a.blob))
	}
	if len(points) == 0 || points[0].In != 0 || !points[0].Header {
		t.Fatalf("the first of %d points is not the first header", len(points))
	}
	for i, p := range points {
		got, err := io.ReadAll(layer.Resume(bytes.NewReader(a.blob[p.In:]), p))
		if err != nil || !bytes.Equal(got, a.content[p.Out:]) {
			t.Fatalf("from %d (%d bits): got %d bytes, %v, want %d or others", p.In, p.Bits, len(got), err, int64(len(a.content))-p.Out)
		}
		if i == 0 {
			continue
		}
		last, end := points[i-1], p.In
		if p.Bits > 0 {
			end++
		}
		got, err = io.ReadAll(layer.Resume(bytes.NewReader(a.blob[last.In:end]), last))
		if (err != nil && !errors.Is(err, io.ErrUnexpectedEOF)) || !bytes.Equal(got, a.content[last.Out:p.Out]) {
			t.Fatalf("from %d to %d: got %d bytes, %v, want %d or others", last.In, p.In, len(got), err, p.Out-last.Out)
		}
	}
}

// TestGunzipFails has what is called fail.
func TestGunzipFails(t *testing.T) {
	broken := errors.New("broken")
	b := join(gzipped(t, "aaa"), gzipped(t, "bbb"))
	z := layer.Gunzip(bytes.NewReader(b), 1, nil, func(p layer.Point) error {
		if p.Out == 0 {
			return nil
		}
		return broken
	})
	got, err := io.ReadAll(z)
	if string(got) != "aaa" || !errors.Is(err, broken) {
		t.Errorf("where at fails: got %q, %v, want \"aaa\" and its error", got, err)
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || !errors.Is(err, broken) {
		t.Errorf("after that: got %d bytes, %v, want the same error", n, err)
	}
	r, w := io.Pipe()
	r.CloseWithError(broken)
	if _, err := io.ReadAll(layer.Gunzip(bytes.NewReader(b), 1<<20, w, nil)); !errors.Is(err, broken) {
		t.Errorf("where raw fails: got %v, want its error", err)
	}
}

// TestGunzipWriteTo reads a little, writes a little to what fails, and reads the rest.
func TestGunzipWriteTo(t *testing.T) {
	broken := errors.New("broken")
	z := layer.Gunzip(bytes.NewReader(gzipped(t, "abcdef")), 1<<20, nil, nil)
	io.ReadFull(z, make([]byte, 1))
	if n, err := io.Copy(failing{broken, 2}, z); n != 2 || !errors.Is(err, broken) {
		t.Errorf("io.Copy to what fails = %d, %v, want 2 and its error", n, err)
	}
	var rest bytes.Buffer
	if n, err := io.Copy(&rest, z); n != 3 || rest.String() != "def" || err != nil {
		t.Errorf("io.Copy of the rest = %d, %v, and wrote %q, want \"def\"", n, err, rest.String())
	}
	z = layer.Gunzip(bytes.NewReader(gzipped(t, "abcdef")[:15]), 1<<20, nil, nil)
	if _, err := io.Copy(&rest, z); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("io.Copy of what is cut short: got %v, want an unexpected EOF", err)
	}
}

// failing is a writer that takes n bytes of each write and fails.
type failing struct {
	err error
	n   int
}

func (f failing) Write(p []byte) (int, error) { return min(f.n, len(p)), f.err }
