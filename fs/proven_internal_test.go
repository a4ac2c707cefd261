package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// A keeper is a file's content that becomes kept, by whichever layer has it.
type keeper struct {
	Object
	content Content
	size    int64
	file    *os.File
}

func (k *keeper) Size() int64 { return k.size }

func (k *keeper) File() *os.File { return k.file }

func (k *keeper) Close() error { return nil }

func (k *keeper) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if k.file != nil {
		return k.file.ReadAt(p, off)
	}
	return k.content.ReadAt(ctx, p, off)
}

// TestProven has a layer whose table of contents says that a file is one that another
// layer has, which is kept before the file is opened, after that, or after it was opened
// once in vain: it gets nothing of it. What the layer has indeed is served by what is
// kept once it was read.
func TestProven(t *testing.T) {
	for _, size := range []int{1000, maxProof + 1000} {
		secret, own := strings.Repeat("s", size), strings.Repeat("o", size)
		path := filepath.Join(t.TempDir(), "kept")
		if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		kept, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer kept.Close()
		// One that lacks it and one that has it.
		for content, has := range map[string]bool{own: false, secret: true} {
			b := testlayer.Tar(t, testlayer.Reg("f", content))
			ix, err := layer.MakeIndex(t.Context(), bytes.NewReader(b), nil)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := ix.Lookup(0, "f")
			ino := *ix.Inode(n)
			ino.Digest = sha256.Sum256([]byte(secret))
			part := layerPart{nil, layer.NewContent(ix, testlayer.Blob(b), "x", nil), &ino}
			var p proven
			var last *keeper
			open := func(file *os.File) (Object, error) {
				return p.object(t.Context(), part, func(c Content) (Object, error) {
					last = &keeper{content: c, size: ino.Size, file: file}
					return last, nil
				})
			}
			read := func(what string, o Object, err error) {
				t.Helper()
				got := make([]byte, size)
				var n int
				if err == nil {
					n, err = o.ReadAt(t.Context(), got, 0)
				}
				switch {
				case has && (n < size || err != nil && !errors.Is(err, io.EOF) || string(got) != secret):
					t.Errorf("%d bytes that the layer has, %s: %d bytes, %v", size, what, n, err)
				case !has && bytes.ContainsAny(got, "s"):
					t.Errorf("%d bytes that the layer lacks, %s: they are served", size, what)
				case !has && err != nil && !errors.Is(err, syscall.EIO):
					t.Errorf("%d bytes that the layer lacks, %s: %v, want EIO", size, what, err)
				}
			}
			o, err := open(kept)
			read("kept before", o, err)
			o, err = open(nil)
			if err != nil {
				t.Fatal(err)
			}
			last.file = kept
			read("kept since", o, nil)
			if f := o.File(); f != nil && !has {
				t.Errorf("%d bytes that the layer lacks: the kernel would read them", size)
			}
			o, err = open(nil)
			read("never kept", o, err)
			o, err = open(kept)
			read("kept after it was read", o, err)
			if has && (err != nil || o.File() == nil) {
				t.Errorf("%d bytes that the layer has are not read by what is kept: %v", size, err)
			}
		}
	}
}
