package layer_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// The standard library's gzip is here, for klauspost's has the same name.

func stdWriter(w io.Writer, level int) compressor {
	z, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		panic(err) // the test's own mistake
	}
	return z
}

func stdReader(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

func gzipped(tb testing.TB, content string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := stdWriter(&b, gzip.DefaultCompression)
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
