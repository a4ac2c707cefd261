package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"distfs/internal/testlayer"
)

// FuzzJSON holds the reader of JSON against the standard library's: it takes the
// same values, and finds the same strings and whole numbers.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`null`, `{}`, `[ ]`, `{"a":[1,-2.5e+3,true,false,null,{"b":"c"}]}`, `"\u00e4\ud83d\ude00\ud83d\ud83d\ude00\ud83dx\udead\n"`, "\"\xff\"",
		`0`, `-0`, `01`, `9223372036854775807`, `-9223372036854775809`, `1.0`, `[1,]`, `{"a":1,}`, `{"a"}`, `{null:1}`, `"a`, `"\x"`, ` [ "a" , 1 ] `, `nul`, `"\u12"`, `1 2`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s += " " // a number by itself has no end
		j := newJSONReader(iotest.OneByteReader(strings.NewReader(s)))
		j.skip()
		if err := j.end(); (err == nil) != json.Valid([]byte(s)) {
			t.Errorf("%q: %v, and Valid is %t", s, err, json.Valid([]byte(s)))
		}

		j = newJSONReader(iotest.OneByteReader(strings.NewReader(s)))
		got := string([]rune(string(j.string()))) // with what is no UTF-8 replaced
		var want string
		if err := json.Unmarshal([]byte(s), &want); (j.end() == nil) != (err == nil) || err == nil && got != want {
			t.Errorf("string of %q is %q, %v, want %q, %v", s, got, j.err, want, err)
		}

		j = newJSONReader(iotest.OneByteReader(strings.NewReader(s)))
		n := j.int()
		var number int64
		if err := json.Unmarshal([]byte(s), &number); (j.end() == nil) != (err == nil) || err == nil && n != number {
			t.Errorf("number of %q is %d, %v, want %d, %v", s, n, j.err, number, err)
		}
	})
}

// FuzzTOC holds the index of whatever JSON to what an index promises.
func FuzzTOC(f *testing.F) {
	x := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("x")))
	f.Add([]byte(`{"version":1,"entries":[{"type":"reg","name":"a/b","size":10,"offset":5,"endOffset":9,"digest":"` + x + `","xattrs":{"user.a":"eA=="},"modtime":"2020-01-01T00:00:00.5Z"}]}`))
	f.Add([]byte(`{"version":1,"entries":[{"type":"reg","name":"a","size":10,"chunkSize":4,"offset":5,"innerOffset":7,"chunkDigest":"` + x +
		`"},{"type":"chunk","chunkOffset":4,"offset":8,"chunkDigest":"` + x + `"},{"type":"hardlink","name":"h","linkName":"a"},{"type":"symlink","name":"l","linkName":"h"}]}`))
	f.Add([]byte(`{"version":1,"entries":[{"type":"char","name":"c","devMajor":1},{"type":"reg","name":"d/.wh.c"},{"type":"reg","name":"z","size":1099511627776,"chunkType":"zeros"}]}`))
	const end = 1000
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range []Format{EStargz, ZstdChunked} {
			if ix, err := indexTOC(bytes.NewReader(b), format, end); err == nil {
				checkTOC(t, ix, end)
			}
		}
	})
}

// TestChunksTakeMemory counts what the chunks of a table of contents take.
func TestChunksTakeMemory(t *testing.T) {
	json := `{"version":1,"entries":[{"type":"reg","name":"f","size":100,"chunkSize":1,"chunkType":"zeros"}`
	for i := 1; i < 100; i++ {
		json += fmt.Sprintf(`,{"type":"chunk","chunkOffset":%d,"chunkSize":1,"chunkType":"zeros"}`, i)
	}
	for memory, want := range map[allowance]error{4 << 10: syscall.EFBIG, 32 << 10: nil} {
		c := &contents{kind: ZstdAt, end: 1, left: 100, tree: newBuilder(), memory: memory}
		if err := decodeTOC(strings.NewReader(json+"]}"), c.add); !errors.Is(err, want) {
			t.Errorf("100 chunks in %d bytes: %v, want %v", memory, err, want)
		}
	}
}

// FuzzLayer is of whole layers, whose digests are made to fit.
func FuzzLayer(f *testing.F) {
	files := []testlayer.File{testlayer.Dir("d"), testlayer.Reg("d/f", "content"), testlayer.Reg("d/z", strings.Repeat("\x00", 20))}
	for _, footer := range []int{51, 47} {
		b, _ := testlayer.EStargz(f, &testlayer.Chunking{Size: 5, Footer: footer}, files...)
		f.Add(b)
	}
	for _, footer := range []int{64, 56, 40} {
		b, _ := testlayer.ZstdChunked(f, &testlayer.Chunking{Size: 5, Footer: footer}, files...)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		annotations := make(map[string]string)
		if off, footer, err := estargzFooter(b); err == nil && off < int64(len(b))-footer {
			if r, err := estargzJSON(b[off : int64(len(b))-footer]); err == nil {
				h := sha256.New()
				_, _ = io.Copy(h, io.LimitReader(r, 1<<20))
				annotations[AnnotationTOC] = fmt.Sprintf("sha256:%x", h.Sum(nil))
			}
		}
		if off, n, err := chunkedFooter(b); err == nil && off+n >= off && off+n <= int64(len(b)) {
			annotations["io.containers.zstd-chunked."+chunkedChecksum] = fmt.Sprintf("sha256:%x", sha256.Sum256(b[off:off+n]))
		}
		if ix, err := ReadTOC(t.Context(), testlayer.Blob(b), annotations); err == nil {
			checkTOC(t, ix, int64(len(b)))
		}
	})
}

// checkTOC holds an index to what it promises: the spans make the stream and lie
// in the blob, and every file is a row of whole ones.
func checkTOC(t *testing.T, ix *Index, end int64) {
	t.Helper()
	ends := map[int64]bool{0: true}
	var at int64
	for _, s := range ix.Spans {
		if s.Out != at || s.Size <= 0 || s.Skip < 0 {
			t.Errorf("%+v at %d", s, at)
		}
		at += s.Size
		ends[at] = true
		zeros := s.Kind == Zeros
		if zeros != (s.Len == 0) || zeros == s.Decoded || s.Off < 0 || s.Len < 0 || s.Len > end || s.Off > end-s.Len {
			t.Errorf("%+v does not lie in %d", s, end)
		}
	}
	if at != ix.Length || at < 0 || at > defaultBytes {
		t.Errorf("%d bytes, want %d", at, ix.Length)
	}
	for i, ino := range ix.Inodes.All() {
		if ino.Kind == 0 || ino.Kind == Opaque || ino.Links == 0 || ino.Kind != File && ino.Size != 0 {
			t.Errorf("inode %d is %+v", i, *ino)
		}
		if ino.Size > 0 && (!ends[ino.Offset] || !ends[ino.Offset+ino.Size]) {
			t.Errorf("inode %d is %+v, in no whole spans", i, *ino)
		}
	}
	for n := range ix.Nodes {
		if path := ix.Path(uint32(n)); strings.ContainsAny(path, "\x00\ufffd") || strings.Contains("/"+path+"/", "/../") || strings.HasPrefix(path, "/") {
			t.Errorf("path %q", path)
		}
	}
}
