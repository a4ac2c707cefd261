package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// errIndex is what is none of the kept forms that this version writes.
var errIndex = &refusal{"it is no whole index of a layer", syscall.EINVAL}

// DecodeIndex returns the Index whose kept form is b, which it does not hold on
// to. Whoever uses the Index need not check what refers to what in it. It takes
// memory by the length of b. The error is syscall.EINVAL if b is anything else
// than what Encode wrote.
func DecodeIndex(b []byte) (*Index, error) {
	body := len(b) - sha256.Size
	if body < 0 || sha256.Sum256(b[:body]) != sum(b[body:]) || !bytes.HasPrefix(b, []byte(indexMagic)) {
		return nil, errIndex
	}
	d := decoder{b: b[len(indexMagic):body]}
	ix := &Index{View: View(d.byte()), Format: Format(d.byte())}
	if d.byte() != 0 {
		ix.DiffID = digest.NewDigestFromBytes(digest.SHA256, d.bytes(sha256.Size))
	}
	ix.Length = d.size()
	spans, nodes, inodes, digests := d.uint(), d.uint(), d.uint(), d.uint()
	ix.Spans = d.spans(spans)
	tree := treeDecoder{digests: d.bytes(uint64(d.count(digests, sha256.Size)) * sha256.Size)}
	tree.b, tree.bad = d.tree()
	tree.text = string(tree.bytes(tree.uint()))
	ix.Nodes = tree.nodes(nodes, inodes)
	ix.Inodes = tree.inodes(inodes)
	ix.Before = tree.before(tree.uint())
	if d.bad || len(d.b) > 0 || tree.bad || len(tree.b)+len(tree.text)+len(tree.digests) > 0 {
		return nil, errIndex
	}
	ix.countLinks()
	return ix, ix.check()
}

// A decoder takes its parts from b. Once something was missing it is bad, and all
// that is taken zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.b, d.bad = nil, true
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint() uint64 {
	n, m := binary.Uvarint(d.b)
	if m <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[m:]
	return n
}

func (d *decoder) uint32() uint32 {
	n := d.uint()
	if n > math.MaxUint32 {
		d.fail()
	}
	return uint32(n)
}

// size is a number that is not negative.
func (d *decoder) size() int64 {
	n := d.uint()
	if n > math.MaxInt64 {
		d.fail()
		return 0
	}
	return int64(n)
}

// after is a number by how much it differs from another. One that is too large
// wraps, and is found by check.
func (d *decoder) after(n int64) int64 {
	by, m := binary.Varint(d.b)
	if m <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[m:]
	return n + by
}

// count is n if the rest may hold so many things of so many bytes at least.
func (d *decoder) count(n, bytes uint64) int {
	if n > uint64(len(d.b))/bytes {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) spans(n uint64) []Span {
	spans := make([]Span, d.count(n, 4))
	end, out := int64(0), int64(0)
	for i := range spans {
		s := &spans[i]
		flags := d.uint()
		s.Kind, s.Decoded = SpanKind(flags&7), flags&flagDecoded != 0
		s.Off, s.Len = d.after(end), d.size()
		if flags&flagSkip != 0 {
			s.Skip = d.size()
		}
		s.Out, s.Size = out, d.size()
		if s.Kind != Zeros {
			copy(s.Digest[:], d.bytes(sha256.Size))
		}
		if s.Kind == Deflate {
			s.Bits, s.Window = d.byte(), bytes.Clone(d.bytes(d.uint()))
		}
		end, out = s.Off+s.Len, out+s.Size
	}
	return spans
}

// tree returns the tree as it was before it was compressed.
func (d *decoder) tree() (b []byte, bad bool) {
	length := d.uint()
	kept := d.bytes(d.uint())
	if length == uint64(len(kept)) {
		return kept, d.bad
	}
	if length >= maxRatio*uint64(len(kept)+1) {
		return nil, true
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(length, 1<<20)))
	if err != nil {
		return nil, true
	}
	defer z.Close()
	b, err = z.DecodeAll(kept, make([]byte, 0, length))
	return b, err != nil || uint64(len(b)) != length
}

// A treeDecoder takes nodes and inodes.
type treeDecoder struct {
	decoder
	text    string // what is left of the texts
	digests []byte // what is left of the digests
}

func (d *treeDecoder) string() string {
	n := d.uint()
	if n > uint64(len(d.text)) {
		d.fail()
		return ""
	}
	s := d.text[:n]
	d.text = d.text[n:]
	return s
}

func (d *treeDecoder) nodes(n, inodes uint64) []Node {
	nodes := make([]Node, d.count(n, 3))
	named, first := uint64(0), uint64(1)
	for i := range nodes {
		node := &nodes[i]
		node.Name, node.Count = d.string(), d.uint32()
		ino := d.uint()
		if ino == 0 {
			named++
			ino = named
		}
		if ino > inodes || ino > uint64(len(nodes)) || first+uint64(node.Count) > uint64(len(nodes)) {
			d.fail()
			return nil
		}
		node.Inode, node.First = uint32(ino-1), uint32(first)
		for c := range node.Count {
			nodes[node.First+c].Parent = uint32(i)
		}
		first += uint64(node.Count)
	}
	return nodes
}

func (d *treeDecoder) inodes(n uint64) Inodes {
	var inodes Inodes
	seconds, offset := int64(0), int64(0)
	for range d.count(n, 5) {
		ino, more := Inode{}, Extra{}
		flags := d.uint()
		ino.Kind = Kind(flags & 15)
		ino.Implied, ino.Ghost, ino.Opaque = flags&flagImplied != 0, flags&flagGhost != 0, flags&flagOpaque != 0
		ino.Mode, ino.UID, ino.GID = d.uint32(), d.uint32(), d.uint32()
		seconds = d.after(seconds)
		ino.Seconds = seconds
		if flags&flagNanoseconds != 0 {
			ino.Nanoseconds = d.uint32()
		}
		if flags&flagDevice != 0 {
			more.Major, more.Minor = d.uint32(), d.uint32()
		}
		if flags&flagLinked != 0 {
			ino.Node = d.uint32()
		}
		if flags&flagXattrs != 0 {
			more.Xattrs = d.xattrs()
		}
		if flags&flagDigest != 0 {
			d.digest(&ino)
		}
		switch ino.Kind {
		case Symlink, Hardlink:
			more.Link = d.string()
		case File:
			offset, more.Data = d.content(&ino, flags&flagData != 0, offset)
		}
		ino.has(more)
		inodes.Add(ino)
	}
	return inodes
}

func (d *treeDecoder) xattrs() []Xattr {
	xattrs := make([]Xattr, d.count(d.uint(), 2))
	for i := range xattrs {
		xattrs[i] = Xattr{d.string(), d.string()}
	}
	return xattrs
}

func (d *treeDecoder) before(n uint64) []string {
	var before []string
	for range d.count(n, 1) {
		before = append(before, d.string())
	}
	return before
}

func (d *treeDecoder) digest(ino *Inode) {
	if len(d.digests) < sha256.Size {
		d.fail()
		return
	}
	ino.Digest = sum(d.digests[:sha256.Size])
	d.digests = d.digests[sha256.Size:]
}

// content takes where the content of a File lies, and returns where it ends and what
// of one with holes is none.
func (d *treeDecoder) content(ino *Inode, holes bool, offset int64) (end int64, data []Segment) {
	ino.Size, ino.Offset = d.size(), d.after(offset)
	if !holes {
		return ino.Offset + ino.Size, nil
	}
	data = make([]Segment, d.count(d.uint(), 3))
	at, offset := int64(0), ino.Offset
	for i := range data {
		s := &data[i]
		s.At, s.Length, s.Offset = at+d.size(), d.size(), d.after(offset)
		at, offset = s.At+s.Length, s.Offset+s.Length
	}
	return offset, data
}

// countLinks finds out what follows from the nodes: Links, and Node of what has
// one name.
func (ix *Index) countLinks() {
	inodes := uint64(ix.Inodes.Len())
	for i := range ix.Nodes {
		if n := ix.Nodes[i].Inode; uint64(n) < inodes {
			ix.Inodes.At(n).Links++
		}
	}
	for i := range ix.Nodes {
		if n := ix.Nodes[i].Inode; uint64(n) < inodes && ix.Inodes.At(n).Links == 1 {
			ix.Inodes.At(n).Node = uint32(i)
		}
	}
}
