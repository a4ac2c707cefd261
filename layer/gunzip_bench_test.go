package layer_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"distfs/layer"
)

// benchTar returns a tar of the regular files below dir, up to most bytes.
func benchTar(b *testing.B, dir string, most int) []byte {
	b.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what can't be read is not in the tar
		}
		if out.Len() > most {
			return filepath.SkipAll
		}
		content, err := os.ReadFile(path)
		if err == nil {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: int64(len(content)), Mode: 0o644})
			w.Write(content)
		}
		return nil
	})
	w.Close()
	return out.Bytes()
}

// BenchmarkGunzip inflates programs and source text, as compress/gzip has them.
func BenchmarkGunzip(b *testing.B) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	for name, dir := range map[string]string{"bin": "/usr/bin", "src": filepath.Join(strings.TrimSpace(string(root)), "src")} {
		plain := benchTar(b, dir, 64<<20)
		blob := gzipped(b, string(plain))
		run := func(who string, open func(io.Reader) (io.Reader, error)) {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					z, err := open(bytes.NewReader(blob))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, z); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("distfs", func(r io.Reader) (io.Reader, error) { return layer.Gunzip(r, 4<<20, nil, nil), nil })
		run("klauspost", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
		run("std", stdReader)
	}
}
