package layer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"
)

// The kept form of an Index: numbers are unsigned varints, signed ones zigzag.
//
//	magic, with the version of this form in it
//	View, Format, whether there is a DiffID: a byte each; the 32 bytes of the DiffID
//	Length, and how many spans, nodes, inodes and digests there are
//	the spans: see putSpan
//	the digests of files, 32 bytes each, in the order of the inodes that have one
//	the tree: its length, its length as it is kept (the same: as it is; less: as
//	    one zstd frame), the tree: see putNode and putInode; how many Before and these
//	the SHA-256 of all that
//
// It depends on nothing but the Index: equal ones are kept as equal bytes.
const indexMagic = "distfs layer index 2\n"

// What is compressed by more than that is kept as it is, so that who decodes an
// Index takes memory by the length of its kept form.
const maxRatio = 16

// What an inode's flags say, behind the four bits of its kind.
const (
	flagImplied = 1 << (4 + iota)
	flagGhost
	flagOpaque
	flagXattrs
	flagDigest
	flagData
	flagNanoseconds
	flagDevice
	flagLinked // it has more than one name
)

// What a span's flags say, behind the three bits of its kind.
const (
	flagDecoded = 1 << (3 + iota)
	flagSkip
)

// Encode writes the kept form of ix to w. The error is syscall.EINVAL if ix is
// none that DecodeIndex would return.
func (ix *Index) Encode(w io.Writer) error {
	if err := ix.check(); err != nil {
		return err
	}
	length, kept, err := ix.compressTree()
	if err != nil {
		return err
	}
	sum := sha256.New()
	e := encoder{to: bufio.NewWriter(io.MultiWriter(w, sum))}
	e.bytes(ix.head())
	e.bytes(ix.putSpans())
	for ino := range ix.known() {
		e.bytes(ino.Digest[:])
	}
	e.uint(uint64(length))
	if kept != nil {
		e.uint(uint64(len(kept)))
		e.bytes(kept)
	} else {
		e.uint(uint64(length))
		e.putTree(ix)
	}
	if err := e.to.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// compressTree returns the length of the tree, and the tree compressed, or nil if it
// is to be kept as it is.
func (ix *Index) compressTree() (length int, kept []byte, err error) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return 0, nil, err
	}
	e := encoder{to: bufio.NewWriter(writing(func(p []byte) (int, error) {
		length += len(p)
		return z.Write(p)
	}))}
	e.putTree(ix)
	if err := errors.Join(e.to.Flush(), z.Close()); err != nil {
		return 0, nil, err
	}
	if b.Len() >= length || length/b.Len() >= maxRatio {
		return length, nil, nil
	}
	return length, b.Bytes(), nil
}

// writing is an io.Writer.
type writing func(p []byte) (int, error)

func (f writing) Write(p []byte) (int, error) { return f(p) }

// known are the inodes that have a digest.
func (ix *Index) known() iter.Seq[*Inode] {
	return func(yield func(*Inode) bool) {
		for _, ino := range ix.Inodes.All() {
			if ino.Digest != (sum{}) && !yield(ino) {
				return
			}
		}
	}
}

func (ix *Index) head() []byte {
	digests := 0
	for range ix.known() {
		digests++
	}
	b := append([]byte(indexMagic), byte(ix.View), byte(ix.Format), 0)
	if ix.DiffID != "" {
		b[len(b)-1] = 1
		b, _ = hex.AppendDecode(b, []byte(ix.DiffID.Encoded())) // check was content with it
	}
	b = binary.AppendUvarint(b, uint64(ix.Length))
	for _, n := range []int{len(ix.Spans), len(ix.Nodes), ix.Inodes.Len(), digests} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// putSpans writes of each span: flags, how far behind the one before it begins in
// the blob, Len, Skip if there is one, Size, Digest unless it is of Zeros; of
// Deflate Bits, and Window with its length in front.
func (ix *Index) putSpans() []byte {
	var b []byte
	end := int64(0)
	for i := range ix.Spans {
		s := &ix.Spans[i]
		flags := uint64(s.Kind) | flag(s.Decoded, flagDecoded) | flag(s.Skip > 0, flagSkip)
		b = binary.AppendUvarint(b, flags)
		b = binary.AppendVarint(b, s.Off-end)
		b = binary.AppendUvarint(b, uint64(s.Len))
		if s.Skip > 0 {
			b = binary.AppendUvarint(b, uint64(s.Skip))
		}
		b = binary.AppendUvarint(b, uint64(s.Size))
		if s.Kind != Zeros {
			b = append(b, s.Digest[:]...)
		}
		if s.Kind == Deflate {
			b = binary.AppendUvarint(append(b, s.Bits), uint64(len(s.Window)))
			b = append(b, s.Window...)
		}
		end = s.Off + s.Len
	}
	return b
}

func flag(is bool, flag uint64) uint64 {
	if is {
		return flag
	}
	return 0
}

// An encoder writes an Index.
type encoder struct {
	to *bufio.Writer // which remembers the first error

	inodes          uint32 // that nodes have named
	seconds, offset int64  // of the inode before; where its content ends
}

func (e *encoder) bytes(b []byte) { _, _ = e.to.Write(b) }
func (e *encoder) uint(n uint64)  { e.bytes(binary.AppendUvarint(e.to.AvailableBuffer(), n)) }
func (e *encoder) int(n int64)    { e.bytes(binary.AppendVarint(e.to.AvailableBuffer(), n)) }

// string writes the length of s; s itself is among the texts.
func (e *encoder) string(s string) { e.uint(uint64(len(s))) }

// putTree writes the tree: the length of all texts, the texts one after the other,
// the nodes, the inodes.
func (e *encoder) putTree(ix *Index) {
	length := uint64(0)
	for s := range ix.texts() {
		length += uint64(len(s))
	}
	e.uint(length)
	for s := range ix.texts() {
		_, _ = e.to.WriteString(s)
	}
	for i := range ix.Nodes {
		e.putNode(ix, i)
	}
	for _, ino := range ix.Inodes.All() {
		e.putInode(ino)
	}
	e.uint(uint64(len(ix.Before)))
	for _, path := range ix.Before {
		e.string(path)
	}
}

// texts are all strings of the tree, as putTree comes to them.
func (ix *Index) texts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range ix.Nodes {
			if !yield(ix.Nodes[i].Name) {
				return
			}
		}
		for _, ino := range ix.Inodes.All() {
			more := ino.extra()
			for _, x := range more.Xattrs {
				if !yield(x.Name) || !yield(x.Value) {
					return
				}
			}
			if more.Link != "" && !yield(more.Link) {
				return
			}
		}
		for _, path := range ix.Before {
			if !yield(path) {
				return
			}
		}
	}
}

// putNode writes of a node: Name, Count, and 0 if it is the first name of the next
// inode, else the inode's number plus one.
func (e *encoder) putNode(ix *Index, i int) {
	n := &ix.Nodes[i]
	e.string(n.Name)
	e.uint(uint64(n.Count))
	if n.Inode == e.inodes {
		e.inodes++
		e.uint(0)
	} else {
		e.uint(uint64(n.Inode) + 1)
	}
}

// putInode writes of an inode: flags, Mode, UID, GID, by how much Seconds differ
// from those before; and as the flags say Nanoseconds, Major and Minor, Node, how
// many Xattrs and these; of a link Link; of a File putContent.
func (e *encoder) putInode(ino *Inode) {
	more := ino.extra()
	e.uint(uint64(ino.Kind) | flag(ino.Implied, flagImplied) | flag(ino.Ghost, flagGhost) | flag(ino.Opaque, flagOpaque) |
		flag(len(more.Xattrs) > 0, flagXattrs) | flag(ino.Digest != sum{}, flagDigest) | flag(more.Data != nil, flagData) |
		flag(ino.Nanoseconds > 0, flagNanoseconds) | flag(more.Major|more.Minor != 0, flagDevice) | flag(ino.Links > 1, flagLinked))
	e.uint(uint64(ino.Mode))
	e.uint(uint64(ino.UID))
	e.uint(uint64(ino.GID))
	e.int(ino.Seconds - e.seconds)
	e.seconds = ino.Seconds
	if ino.Nanoseconds > 0 {
		e.uint(uint64(ino.Nanoseconds))
	}
	if more.Major|more.Minor != 0 {
		e.uint(uint64(more.Major))
		e.uint(uint64(more.Minor))
	}
	if ino.Links > 1 {
		e.uint(uint64(ino.Node))
	}
	if len(more.Xattrs) > 0 {
		e.uint(uint64(len(more.Xattrs)))
		for _, x := range more.Xattrs {
			e.string(x.Name)
			e.string(x.Value)
		}
	}
	switch ino.Kind {
	case Symlink, Hardlink:
		e.string(more.Link)
	case File:
		e.putContent(ino, more.Data)
	}
}

// putContent writes Size, how far behind the content before its own begins, and if
// it has holes how many Data and these: how far behind the one before each begins
// in the file, Length, and the same in the stream.
func (e *encoder) putContent(ino *Inode, data []Segment) {
	e.uint(uint64(ino.Size))
	e.int(ino.Offset - e.offset)
	e.offset = ino.Offset
	if data == nil {
		e.offset += ino.Size
		return
	}
	e.uint(uint64(len(data)))
	at := int64(0)
	for _, s := range data {
		e.uint(uint64(s.At - at))
		e.uint(uint64(s.Length))
		e.int(s.Offset - e.offset)
		at, e.offset = s.At+s.Length, s.Offset+s.Length
	}
}
