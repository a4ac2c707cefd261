package testlayer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Chunking regulates how a layer with a table of contents is made. A nil
// *Chunking means the zero value.
type Chunking struct {
	Size   int // of a file's chunks, in bytes; 0 means that each file is one
	Member int // what a gzip member or zstd frame has at least, in bytes compressed, before a chunk begins the next; 0 means that none is shared
	Footer int // how long the footer is: of an eStargz 51 or 47, of a zstd:chunked 64, 56 or 40; 0 means the first
}

// EStargz returns an eStargz of files, and the annotations of its descriptor.
// Times are whole seconds there.
func EStargz(tb testing.TB, opts *Chunking, files ...File) (blob []byte, annotations map[string]string) {
	tb.Helper()
	if opts == nil {
		opts = new(Chunking)
	}
	c := &chunker{frame: gzip.NewWriter(nil)}
	toc := c.write(tb, opts, files)
	for i := range toc {
		if t := toc[i].ModTime; t != nil {
			*t = t.UTC().Round(time.Second)
		}
	}
	return WithEStargzTOC(tb, c.out.Bytes(), marshal(tb, toc), opts.Footer)
}

// ZstdChunked returns a zstd:chunked of files, and the annotations of its
// descriptor. A chunk of zeros is told as such.
func ZstdChunked(tb testing.TB, opts *Chunking, files ...File) (blob []byte, annotations map[string]string) {
	tb.Helper()
	if opts == nil {
		opts = new(Chunking)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	c := &chunker{frame: z, zstd: true}
	toc := c.write(tb, opts, files)
	return WithZstdTOC(tb, c.out.Bytes(), marshal(tb, toc), opts.Footer)
}

// WithEStargzTOC returns data followed by a table of contents of eStargz as it
// stands and a footer of that length, 0 for 51, and the annotations.
func WithEStargzTOC(tb testing.TB, data, toc []byte, footer int) (blob []byte, annotations map[string]string) {
	tb.Helper()
	blob = append(bytes.Clone(data), Gzip(tb, Tar(tb, Reg("stargz.index.json", string(toc))))...)
	blob = append(blob, EStargzFooter(int64(len(data)), footer)...)
	return blob, map[string]string{"containerd.io/snapshot/stargz/toc.digest": fmt.Sprintf("sha256:%x", sha256.Sum256(toc))}
}

// EStargzFooter returns a footer of that length, 0 for 51, that says off.
func EStargzFooter(off int64, length int) []byte {
	extra := fmt.Sprintf("%016xSTARGZ", off)
	if length != 47 {
		extra = "SG\x16\x00" + extra
	}
	return []byte("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" + string(rune(len(extra))) + "\x00" + extra + "\x01\x00\x00\xff\xff" + strings.Repeat("\x00", 8))
}

// WithZstdTOC returns data followed by a table of contents of zstd:chunked as it
// stands and a footer of that length, 0 for 64, and the annotations.
func WithZstdTOC(tb testing.TB, data, toc []byte, footer int) (blob []byte, annotations map[string]string) {
	tb.Helper()
	manifest := Zstd(tb, toc)
	off := len(data) + 8
	blob = append(bytes.Clone(data), skippable(manifest)...)
	if footer != 40 {
		blob = append(blob, skippable([]byte("where a description of the tar would be"))...)
	}
	blob = append(blob, skippable(zstdFooter(off, len(manifest), len(toc), footer))...)
	const prefix = "io.github.containers.zstd-chunked."
	return blob, map[string]string{
		prefix + "manifest-checksum": fmt.Sprintf("sha256:%x", sha256.Sum256(manifest)),
		prefix + "manifest-position": fmt.Sprintf("%d:%d:%d:1", off, len(manifest), len(toc)),
	}
}

func zstdFooter(off, compressed, plain, length int) []byte {
	if length == 0 {
		length = 64
	}
	b := make([]byte, length)
	for i, n := range []int{off, compressed, plain, 1} {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(n))
	}
	if length == 64 {
		copy(b[56:], "GNUlInUx")
	} else {
		copy(b[32:], "GnUlInUx") // with 56 too
	}
	return b
}

func skippable(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), uint32(len(b))), b...)
}

// A tocEntry is what a table of contents has of a file, or of a further chunk.
type tocEntry struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	LinkName    string            `json:"linkName,omitempty"`
	Mode        int64             `json:"mode,omitempty"`
	Size        int64             `json:"size,omitempty"`
	UID         int               `json:"uid,omitempty"`
	GID         int               `json:"gid,omitempty"`
	ModTime     *time.Time        `json:"modtime,omitempty"`
	DevMajor    int64             `json:"devMajor,omitempty"`
	DevMinor    int64             `json:"devMinor,omitempty"`
	Xattrs      map[string][]byte `json:"xattrs,omitempty"`
	Digest      string            `json:"digest,omitempty"`
	Offset      int64             `json:"offset,omitempty"`
	InnerOffset int64             `json:"innerOffset,omitempty"`
	EndOffset   int64             `json:"endOffset,omitempty"`
	ChunkSize   int64             `json:"chunkSize,omitempty"`
	ChunkOffset int64             `json:"chunkOffset,omitempty"`
	ChunkDigest string            `json:"chunkDigest,omitempty"`
	ChunkType   string            `json:"chunkType,omitempty"`
}

var tocTypes = map[byte]string{
	tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

func marshal(tb testing.TB, entries []tocEntry) []byte {
	tb.Helper()
	b, err := json.MarshalIndent(map[string]any{"version": 1, "entries": entries, "tarSplitDigest": "sha256:" + strings.Repeat("0", 64)}, "", "\t")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// A chunker writes a tar in members or frames that begin where chunks do.
type chunker struct {
	out   bytes.Buffer
	frame interface {
		io.WriteCloser
		Flush() error
		Reset(w io.Writer)
	}
	zstd  bool
	open  bool
	begin int   // of the frame in out
	inner int64 // bytes written into it
}

func (c *chunker) Write(p []byte) (int, error) {
	if !c.open {
		c.open, c.begin, c.inner = true, c.out.Len(), 0
		c.frame.Reset(&c.out)
	}
	c.inner += int64(len(p))
	return c.frame.Write(p)
}

// cut ends the frame, unless it is shorter than least.
func (c *chunker) cut(tb testing.TB, least int) {
	tb.Helper()
	if !c.open {
		return
	}
	err := c.frame.Flush()
	if err == nil && c.out.Len()-c.begin >= least {
		c.open = false
		err = c.frame.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func (c *chunker) write(tb testing.TB, opts *Chunking, files []File) (toc []tocEntry) {
	tb.Helper()
	t := tar.NewWriter(c)
	for _, f := range files {
		hdr := f.header()
		if err := t.WriteHeader(hdr); err != nil {
			tb.Fatal(err)
		}
		e := tocEntry{
			Type: tocTypes[hdr.Typeflag], Name: hdr.Name, LinkName: hdr.Linkname, Mode: hdr.Mode, Size: hdr.Size, UID: hdr.Uid, GID: hdr.Gid,
			DevMajor: hdr.Devmajor, DevMinor: hdr.Devminor, ModTime: new(hdr.ModTime),
		}
		for key, value := range hdr.PAXRecords {
			if name, is := strings.CutPrefix(key, "SCHILY.xattr."); is {
				if e.Xattrs == nil {
					e.Xattrs = make(map[string][]byte)
				}
				e.Xattrs[name] = []byte(value)
			}
		}
		if e.Type == "reg" && (f.Content != "" || !c.zstd) {
			e.Digest = sum(f.Content)
		}
		if f.Content == "" {
			toc = append(toc, e)
			continue
		}
		toc = append(toc, c.chunks(tb, t, e, f.Content, opts)...)
	}
	if err := t.Close(); err != nil {
		tb.Fatal(err)
	}
	c.cut(tb, 0)
	return toc
}

// chunks writes the content of the file e and returns its entries.
func (c *chunker) chunks(tb testing.TB, w io.Writer, e tocEntry, content string, opts *Chunking) []tocEntry {
	tb.Helper()
	var toc []tocEntry
	size := opts.Size
	if size == 0 {
		size = len(content)
	}
	for at := 0; at < len(content); at += size {
		chunk := content[at:min(at+size, len(content))]
		c.cut(tb, opts.Member)
		e.Offset, e.InnerOffset, e.ChunkOffset = int64(c.out.Len()), 0, int64(at)
		if c.open {
			e.Offset, e.InnerOffset = int64(c.begin), c.inner
		}
		if len(chunk) < len(content) && (c.zstd || len(chunk) == size) {
			e.ChunkSize = int64(len(chunk))
		}
		if len(chunk) < len(content) || !c.zstd {
			e.ChunkDigest = sum(chunk)
		}
		if c.zstd && strings.Trim(chunk, "\x00") == "" {
			e.ChunkType = "zeros"
		}
		if _, err := io.WriteString(w, chunk); err != nil {
			tb.Fatal(err)
		}
		toc = append(toc, e)
		e = tocEntry{Type: "chunk", Name: e.Name}
	}
	if c.zstd {
		c.cut(tb, opts.Member)
		if !c.open {
			toc[0].EndOffset = int64(c.out.Len())
		}
	}
	return toc
}

func sum(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
