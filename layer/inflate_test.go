package layer_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"distfs/layer"
)

// member returns a gzip member around deflated, which inflates to content.
func member(deflated []byte, content string) []byte {
	b := append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), deflated...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(content)))
	return binary.LittleEndian.AppendUint32(b, uint32(len(content)))
}

// bits packs a deflated stream: each string is a number as the RFC sends it, its
// lowest bit first if it says "n:", a Huffman code as it stands if not.
func bits(fields ...string) []byte {
	var out []byte
	n := 0
	for _, field := range fields {
		number := strings.HasPrefix(field, "n:")
		field = strings.TrimPrefix(field, "n:")
		for i := range field {
			c := field[i]
			if number {
				c = field[len(field)-1-i]
			}
			if n%8 == 0 {
				out = append(out, 0)
			}
			out[n/8] |= (c - '0') << (n % 8)
			n++
		}
	}
	return out
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gunzip(b []byte) (string, error) {
	got, err := io.ReadAll(layer.Gunzip(bytes.NewReader(b), 1<<20, nil, nil))
	return string(got), err
}

// final, fixed code.
const fixed = "n:011"

func TestInflate(t *testing.T) {
	stored := unhex(t, "00 0300 fcff 616263 01 0000 ffff")
	for name, test := range map[string]struct {
		deflated []byte
		want     string
	}{
		"fixed, empty":           {bits(fixed, "0000000"), ""},
		"stored":                 {stored, "abc"},
		"fixed":                  {bits(fixed, "10010001", "10010010", "0000000"), "ab"}, // 0x61 is 0x30+0x61
		"overlap of one":         {bits(fixed, "10010001", "0000010", "00000", "0000000"), "aaaaa"},
		"overlap of two":         {bits(fixed, "10010001", "10010010", "0000010", "00001", "0000000"), "ababab"},
		"longest":                {bits(fixed, "10010001", "11000101", "00000", "0000000"), strings.Repeat("a", 259)},
		"258 as 227 and 31 more": {bits(fixed, "10010001", "11000100", "n:11111", "00000", "0000000"), strings.Repeat("a", 259)},
		"9 bits":                 {bits(fixed, "110010000", "111111111", "0000000"), "\x90\xff"},
		"a copy from a stored block": {
			append(unhex(t, "00 0300 fcff 616263"), bits(fixed, "0000001", "00010", "0000000")...), "abcabc",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := gunzip(member(test.deflated, test.want))
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestInflateRefuses(t *testing.T) {
	// 257 literals and one distance, in a code of 0 for a length of none, or of one,
	// and 1 for 11 times none and 7 bits' worth more.
	zeros := []string{"n:101", "n:00000", "n:00000", "n:0000", "n:000", "n:000", "n:001", "n:001"}
	ones := []string{"n:101", "n:00000", "n:00000", "n:1110", "n:000", "n:000", "n:001"}
	for range 14 {
		ones = append(ones, "n:000")
	}
	ones = append(ones, "n:001")
	for name, test := range map[string]struct {
		deflated []byte
		want     string // what comes before
		at       int64
	}{
		"a kind of block that is none": {bits("n:111"), "", 10},
		"two lengths":                  {unhex(t, "01 0300 fdff 616263"), "", 15},
		"literal 286":                  {bits(fixed, "10010001", "11000110", "00000", "0000000"), "a", 11},
		"distance 30":                  {bits(fixed, "10010001", "0000001", "11110", "0000000"), "a", 12},
		"before the beginning":         {bits(fixed, "10010001", "0000001", "00001", "0000000"), "a", 12},
		"287 literals":                 {bits("n:101", "n:11110", "n:00000", "n:0000"), "", 12},
		"31 distances":                 {bits("n:101", "n:00000", "n:11110", "n:0000"), "", 12},
		"oversubscribed lengths":       {bits("n:101", "n:00000", "n:00000", "n:0000", "n:001", "n:001", "n:001", "n:000"), "", 13},
		"incomplete lengths":           {bits("n:101", "n:00000", "n:00000", "n:0000", "n:010", "n:010", "n:000", "n:000"), "", 13},
		"no lengths":                   {bits("n:101", "n:00000", "n:00000", "n:0000", "n:000", "n:000", "n:000", "n:000"), "", 13},
		"a code of too many lengths":   {bits(append(zeros, "1", "n:1111111", "1", "n:1111111")...), "", 15},
		"a code of no symbols":         {bits(append(zeros, "1", "n:1111111", "1", "n:1101101")...), "", 15},
		"an oversubscribed code":       {bits(append(ones, "0", "0", "0", "1", "n:1111111", "1", "n:1101010")...), "", 20},
		"repetition of nothing":        {bits("n:101", "n:00000", "n:00000", "n:0000", "n:001", "n:000", "n:000", "n:001", "1"), "", 13},
	} {
		t.Run(name, func(t *testing.T) {
			b := append(member(nil, "")[:10], test.deflated...)
			b = append(b, make([]byte, 64)...)
			got, err := gunzip(b)
			at, ok := layer.CorruptAt(err)
			if got != test.want || !ok || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("got %q, %v, want %q and that it is corrupt", got, err, test.want)
			}
			if at < test.at-2 || at > test.at+2 {
				t.Errorf("it is corrupt at %d, want about %d", at, test.at)
			}
			theirs, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[10:])))
			if string(theirs) != test.want || err == nil {
				t.Errorf("compress/flate got %q, %v, want %q and an error", theirs, err, test.want)
			}
		})
	}
}

// far is data that is copied from as far back as can be, and in which all lengths
// of codes come.
func far() []byte {
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 0, 1<<20)
	for len(b) < 900<<10 {
		n := 1 << (random.Uint64() % 9)
		switch {
		case random.Uint64()%4 == 0 || len(b) < 40<<10:
			for range n {
				b = append(b, byte(1<<(random.Uint64()%16)>>(random.Uint64()%12)))
			}
		default:
			from := len(b) - 1 - int(random.Uint64()%(1<<15))
			for i := range n + 3 {
				b = append(b, b[from+i])
			}
		}
	}
	return b
}

// TestInflateReaders has the input come in many ways.
func TestInflateReaders(t *testing.T) {
	want := far()
	b := deflateAll(t, want)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one by one": iotest.OneByteReader, "by halves": iotest.HalfReader, "with the error": iotest.DataErrReader,
	} {
		got, err := io.ReadAll(layer.Gunzip(wrap(bytes.NewReader(b)), 1<<20, nil, nil))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, %v, want %d others", name, len(got), err, len(want))
		}
	}
	broken := errors.New("broken")
	got, err := io.ReadAll(layer.Gunzip(io.MultiReader(bytes.NewReader(b[:len(b)/2]), iotest.ErrReader(broken)), 1<<20, nil, nil))
	if !errors.Is(err, broken) || !bytes.HasPrefix(want, got) || len(got) < len(want)/4 {
		t.Errorf("got %d bytes, %v, want about half of %d and that it is broken", len(got), err, len(want))
	}
}

func deflateAll(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, 6)
	if err != nil {
		tb.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return member(out.Bytes(), string(b))
}

// TestInflateLongBlock has one block that is longer than any buffer.
func TestInflateLongBlock(t *testing.T) {
	const copies = 1 << 18                                                                // of 258 bytes
	begin := bits(fixed, "110010000", "110010000", "110010000", "110010000", "110010000") // whole bytes
	pattern := bits(strings.Split(strings.Repeat("11000101 00000 ", 8), " ")...)
	length := int64(5 + copies*258)
	sum := crc32.NewIEEE()
	io.Copy(sum, repeat([]byte{0x90}, length))
	trailer := binary.LittleEndian.AppendUint32(nil, sum.Sum32())
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(length))
	z := layer.Gunzip(io.MultiReader(
		bytes.NewReader(member(nil, "")[:10]), bytes.NewReader(begin), repeat(pattern, int64(len(pattern))*copies/8),
		bytes.NewReader(bits("0000000")), bytes.NewReader(trailer),
	), 1<<20, nil, func(p layer.Point) error {
		if p.In > 0 {
			t.Errorf("there is a point at %d", p.In)
		}
		return nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, z)
	runtime.ReadMemStats(&after)
	if n != length || err != nil {
		t.Errorf("got %d bytes, %v, want %d", n, err, length)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
		t.Errorf("it allocated %d bytes", got)
	}
}

// repeat returns a reader of n bytes, which are what over and over.
func repeat(what []byte, n int64) io.Reader {
	return io.LimitReader(&repeated{what: what}, n)
}

type repeated struct {
	what []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.what[r.at]
		r.at = (r.at + 1) % len(r.what)
	}
	return len(p), nil
}
