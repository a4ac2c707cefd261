package layer_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"distfs/layer"
)

// FuzzInflate holds what is inflated against what compress/flate makes of it: the
// same bytes, and whether there is an error. One of the two may be ahead when the input ends,
// as compress/flate wants to have as many bits as the end of a block has.
func FuzzInflate(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add(bits(fixed, "10010001", "0000010", "00000", "0000000"), uint16(1))
	f.Add(bits("n:000", "n:00000"), uint16(100))
	f.Add(deflateAll(f, far()[:50_000])[10:], uint16(3000))
	f.Add(deflateAll(f, bytes.Repeat([]byte("abcdefghij"), 5000))[10:], uint16(3000))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		const most = 8 << 20
		rest := bytes.NewReader(b) // flate reads from an io.ByteReader no more than it needs
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(rest), most))
		if len(want) == most {
			return
		}
		if wantErr == nil {
			b = member(b[:len(b)-rest.Len()], string(want))
		} else {
			b = append(member(nil, "")[:10], b...)
		}
		n := min(int(cut), len(b))
		got, err := io.ReadAll(layer.Gunzip(io.MultiReader(bytes.NewReader(b[:n]), bytes.NewReader(b[n:])), 1<<20, nil, nil))
		switch {
		case wantErr == nil:
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes (%x), %v, want %d (%x)", len(got), crc32.ChecksumIEEE(got), err, len(want), crc32.ChecksumIEEE(want))
			}
		case err == nil:
			t.Errorf("got %d bytes and no error, want %v", len(got), wantErr)
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(wantErr, io.ErrUnexpectedEOF):
			if !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got) {
				t.Errorf("got %d bytes, %v, want those of %d, %v", len(got), err, len(want), wantErr)
			}
		case !bytes.Equal(got, want):
			t.Errorf("got %d bytes, %v, want %d, %v", len(got), err, len(want), wantErr)
		}
	})
}

// FuzzGunzip holds that what is no gzip is refused, and that the offset of an error lies in it.
func FuzzGunzip(f *testing.F) {
	f.Add(join(member([]byte{3, 0}, ""), member([]byte{3, 0}, ""), []byte{0, 0, 0}))
	f.Add([]byte("\x1f\x8b\x08\x1e\x01\x02\x03\x04\x02\x03\x05\x00extraname\x00comment\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw bytes.Buffer
		_, err := io.Copy(io.Discard, io.LimitReader(layer.Gunzip(bytes.NewReader(b), 1, &raw, nil), 8<<20))
		if !bytes.HasPrefix(b, raw.Bytes()) {
			t.Errorf("raw got %d other bytes than those of the stream", raw.Len())
		}
		if at, ok := layer.CorruptAt(err); err != nil && (!ok || at < 0 || at > int64(len(b))) {
			t.Errorf("of %d bytes the error is %v", len(b), err)
		}
	})
}
