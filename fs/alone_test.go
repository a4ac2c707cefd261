package fs_test

import (
	"bytes"
	"slices"
	"testing"

	"distfs/internal/testlayer"
)

// TestAlone reads an image that is mounted by itself, whose files nobody opens.
func TestAlone(t *testing.T) {
	src := newSource(t)
	large := string(content(5, 3<<20+5))
	im := addFiles(t, src, gzipped(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n"), testlayer.Reg("large", large), testlayer.Reg("empty", "")))
	m := mountImage(t, src, im)
	m.wantFile("etc/a", []byte("one\n"))
	m.wantFile("large", []byte(large))
	m.wantFile("empty", nil)
	if got, want := m.list(), []string{"empty", "etc", "large"}; !slices.Equal(got, want) {
		t.Errorf("the root has %q, want %q", got, want)
	}
	if _, err := call[[]string, int](m.agent, "Conform", []string{m.dir, "etc/a", "large"}); err != nil {
		t.Error(err)
	}
	read := readers(m, "large", len(large))
	for range 4 {
		if got, err := read(); err != nil || !bytes.Equal(got, []byte(large)) {
			t.Errorf("one of several readers has %d bytes, %v", len(got), err)
		}
	}
	m.list("etc")
	requests := m.Stats().Requests
	for _, kind := range []string{"open", "flush", "opendir"} {
		if n := requests[kind].Count; n > 1 {
			t.Errorf("the kernel asked %d times to %s, after it was told that nobody need", n, kind)
		}
	}
}

// readers reads a file several times at once.
func readers(m *mount, path string, n int) func() ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	results := make(chan result, 4)
	for range 4 {
		got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(path), 0, n})
		go func() {
			err := wait()
			results <- result{*got, err}
		}()
	}
	return func() ([]byte, error) {
		r := <-results
		return r.b, r.err
	}
}
