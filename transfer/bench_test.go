package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"
)

// BenchmarkUnpack unpacks 2,000 files of 20 kB in 20 directories.
func BenchmarkUnpack(b *testing.B) {
	var files []testlayer.File
	for i := range 20 {
		files = append(files, testlayer.Dir(fmt.Sprintf("usr/lib/%d", i)))
		for j := range 100 {
			files = append(files, testlayer.Reg(fmt.Sprintf("usr/lib/%d/%d", i, j), strings.Repeat(fmt.Sprintf("%d %d\n", i, j), 3000)))
		}
	}
	plain := testlayer.Tar(b, files...)
	layer := testlayer.Gzip(b, plain)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "tree")
		u, err := transfer.NewUnpacker(dir, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := u.Layer(context.Background(), bytes.NewReader(layer)); err != nil {
			b.Fatal(err)
		}
		u.Close()
		b.StopTimer()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
