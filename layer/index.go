package layer

import (
	"crypto/sha256"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A View says what an Index was made from: a table of contents can hide what the
// tar has.
type View uint8

// The views.
const (
	ViewTar  View = iota // the tar itself, all of it
	ViewTOC              // a table of contents, whose digest the layer's descriptor bears
	ViewHeld             // the same, and it was held against the tar: see Compare
)

// An Index is what a layer adds to the tree below it, and where in the layer's
// blob the content of its files lies. It does not change.
//
// Content is found in two steps. All content of a layer is a stream of bytes: of a
// tar, the archive itself, decompressed; of a table of contents, the chunks of its
// files one after the other. An Inode says where in the stream its content lies, a
// Span how a part of the stream comes from a range of the blob.
type Index struct {
	View   View
	Format Format
	DiffID digest.Digest // of the tar, decompressed; "" where only a table of contents was read

	// Nodes are the names. The first is the root, a directory. The children of a
	// directory lie together, in the order of their names' bytes, and so do those of
	// one directory behind those of the one before it.
	Nodes  []Node
	Inodes Inodes // in the order of the first of Nodes that names each

	// Before are the paths, clean, of directories without an entry that names of
	// the layer led through before something else of it took their place, and of what
	// hard links were to that they led through. Where the layers below have a link
	// at one of them, these names were where it leads, which Nodes do not tell.
	Before []string

	Spans  []Span // in the order of the stream, without a gap
	Length int64  // of the stream, in bytes
}

// A Node is a name in the tree of a layer.
type Node struct {
	Name   string // one component; "" for the root
	Parent uint32 // in Nodes; the root is its own
	Inode  uint32 // in Inodes

	First, Count uint32 // the children of a directory in Nodes
}

// An Inode is what one or more names mean.
type Inode struct {
	// Kind is never Opaque. A Hardlink is one whose file this layer has not: its
	// Link is a path of the layers below.
	Kind    Kind
	Implied bool // a directory of which the layer has no entry, nor had of anything in its place: it has no attributes of its own
	Ghost   bool // an implied directory that is there only for what is hidden below it: it makes none where lower layers have none
	Opaque  bool // a directory that hides what lower layers have in it

	Mode        uint32 // permission bits, setuid, setgid and sticky
	UID, GID    uint32
	Nanoseconds uint32 // below 1e9, and
	Seconds     int64  // since 1970: when it was modified

	Node  uint32 // the first of its names in the archive
	Links uint32 // how many names it has in this layer

	Size   int64             // of a File, holes included
	Digest [sha256.Size]byte // SHA-256 of a File's content; zero is not known
	Offset int64             // in the stream, where a File's content begins

	Extra *Extra // nil: nothing
}

// Extra is what few inodes have.
type Extra struct {
	Link         string    // a symlink's target as it stands, or the path of a Hardlink
	Xattrs       []Xattr   // in the order of their names
	Data         []Segment // of a File with holes: what is no hole, in order; nil: all of it lies at Offset
	Major, Minor uint32    // of a device
}

// An Xattr is an extended attribute.
type Xattr struct{ Name, Value string }

// A Segment is a part of a sparse file that is no hole.
type Segment struct {
	At     int64 // in the file
	Length int64
	Offset int64 // in the stream
}

// A SpanKind is how a part of the stream comes from the blob.
type SpanKind uint8

// The kinds of spans.
const (
	Stored  SpanKind = iota // the bytes themselves
	Deflate                 // from a point within a gzip stream
	GzipAt                  // from the header of a gzip member on, and through further ones
	ZstdAt                  // from the header of a zstd frame on, and through further ones
	Zeros                   // no bytes of the blob
)

// A Span is a part of the stream that is decoded by itself.
type Span struct {
	Kind     SpanKind
	Off, Len int64 // in the blob, in bytes
	Skip     int64 // how many decoded bytes come before: of GzipAt and ZstdAt, for chunks that share a member
	Out      int64 // in the stream, where it begins
	Size     int64 // of what it decodes to

	// Digest is the SHA-256 of the Len bytes of the blob, or if Decoded of the
	// Size bytes of the stream.
	Digest  [sha256.Size]byte
	Decoded bool

	// Of Deflate: how many of the low bits of the first byte belong to what comes
	// before, and the up to 32 KiB of the stream before Out, deflated.
	Bits   uint8
	Window []byte
}

// ModTime returns when the inode was modified.
func (ino *Inode) ModTime() time.Time { return time.Unix(ino.Seconds, int64(ino.Nanoseconds)) }

// Link returns the Extra's.
func (ino *Inode) Link() string { return ino.extra().Link }

// Xattrs returns the Extra's.
func (ino *Inode) Xattrs() []Xattr { return ino.extra().Xattrs }

// Data returns the Extra's.
func (ino *Inode) Data() []Segment { return ino.extra().Data }

// Device returns the Extra's Major and Minor.
func (ino *Inode) Device() (major, minor uint32) { return ino.extra().Major, ino.extra().Minor }

func (ino *Inode) extra() Extra {
	if ino.Extra == nil {
		return Extra{}
	}
	return *ino.Extra
}

// has gives an inode what there is in x.
func (ino *Inode) has(x Extra) {
	ino.Extra = nil
	if x.Link != "" || x.Xattrs != nil || x.Data != nil || x.Major|x.Minor != 0 {
		ino.Extra = &x
	}
}

// Children returns the names in the directory n, in order.
func (ix *Index) Children(n uint32) []Node {
	d := &ix.Nodes[n]
	return ix.Nodes[d.First : d.First+d.Count]
}

// Lookup returns the node of a name in the directory dir.
func (ix *Index) Lookup(dir uint32, name string) (n uint32, ok bool) {
	children := ix.Children(dir)
	i := sort.Search(len(children), func(i int) bool { return children[i].Name >= name })
	if i == len(children) || children[i].Name != name {
		return 0, false
	}
	return ix.Nodes[dir].First + uint32(i), true
}

// Inode returns what the node n is.
func (ix *Index) Inode(n uint32) *Inode { return ix.Inodes.At(ix.Nodes[n].Inode) }

// Path returns the path of the node n from the root, "." for the root itself.
func (ix *Index) Path(n uint32) string {
	if n == 0 {
		return "."
	}
	var parts []string
	for ; n != 0; n = ix.Nodes[n].Parent {
		parts = append(parts, ix.Nodes[n].Name)
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "/")
}
