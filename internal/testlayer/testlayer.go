// Package testlayer makes layers for tests, hostile ones too: an entry is
// written as it stands, whatever its name says.
package testlayer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Time is when the files that say nothing else were modified.
var Time = time.Unix(1_700_000_000, 123_456_789)

// A File is an entry with content.
type File struct {
	tar.Header
	Content string
}

// Reg returns a regular file.
func Reg(name, content string) File {
	return File{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

// Dir returns a directory.
func Dir(name string) File {
	return File{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

// Symlink returns a symbolic link.
func Symlink(name, target string) File {
	return File{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// Link returns a hard link.
func Link(name, target string) File {
	return File{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

// Words returns the entries that words tell: a directory "a/", a file "a=content" or
// "a", as a whiteout is one, a symbolic link "a@target", a hard link "a#target".
func Words(words string) (files []File) {
	for w := range strings.FieldsSeq(words) {
		name, more := w, ""
		kind := strings.IndexAny(w, "=@#")
		if kind >= 0 {
			name, more = w[:kind], w[kind+1:]
		}
		switch {
		case kind < 0 && strings.HasSuffix(w, "/"):
			files = append(files, Dir(name))
		case kind < 0 || w[kind] == '=':
			files = append(files, Reg(name, more))
		case w[kind] == '@':
			files = append(files, Symlink(name, more))
		default:
			files = append(files, Link(name, more))
		}
	}
	return files
}

// Tar returns the tar of files. Those without a time have Time.
func Tar(tb testing.TB, files ...File) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := WriteTar(&b, files...); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// WriteTar writes what Tar returns.
func WriteTar(w io.Writer, files ...File) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		hdr := f.header()
		if err := t.WriteHeader(hdr); err != nil {
			return fmt.Errorf("%.100q: %w", hdr.Name, err)
		}
		if _, err := io.WriteString(t, f.Content); err != nil {
			return err
		}
	}
	return t.Close()
}

// header returns the header that f is written with.
func (f *File) header() *tar.Header {
	hdr := f.Header
	hdr.Size = int64(len(f.Content))
	if hdr.Typeflag != tar.TypeXGlobalHeader {
		if hdr.ModTime.IsZero() {
			hdr.ModTime = Time
		}
		if hdr.Format == 0 {
			hdr.Format = tar.FormatPAX
		}
	}
	return &hdr
}

// Raw returns a header block with a right checksum and the given fields as they
// stand, by their offset in it, for what no writer of tars would write.
func Raw(name string, typeflag byte, fields map[int]string) []byte {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	block[156] = typeflag
	copy(block[257:], "ustar\x0000")
	for off, s := range fields {
		copy(block[off:], s)
	}
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// Gzip returns b as one gzip member.
func Gzip(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Zstd returns b as one zstd frame.
func Zstd(tb testing.TB, b []byte) []byte {
	tb.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}
