// Package layer reads the layers of images: tar archives that are hostile until
// the contrary is shown.
//
// A layer is a tar, a gzip of it (of one member or of several, eStargz among
// them) or a zstd of it (of any number of frames, zstd:chunked among them); its
// content tells which, never its media type. A Reader hands out its entries in
// their order, each checked and cleaned:
//
//   - a name is relative, has no "." and no "..", is no longer than Linux allows
//     and no deeper than MaxDepth: what would climb out of the root stays in it;
//   - whiteouts are told as such, and bear the name of what they hide;
//   - what only describes the archive is left out: global PAX headers, aufs's
//     own files, and of what is said to be an eStargz its table of contents and
//     its landmarks.
//
// A Reader takes memory for the entry at hand, which is bounded, and for the
// decompressor. What it reads ends at limits that its Options set.
//
// An Index is the tree that the entries make, and where in the layer's blob the
// content of each file lies, as spans that are fetched and decoded by themselves
// and have a digest each. MakeIndex makes one of all of a layer, in one pass; what
// Encode writes of it is kept. ReadTOC makes one of the table of contents that an
// eStargz or a zstd:chunked has at its end, by the same checks. It counts only if
// the layer's descriptor names its digest, for it is not the tar and can hide a
// file of it. A Content reads files through an Index: no byte is served that was
// not held against its span's digest, and so the blob may come from anywhere.
//
// The package is a leaf: it knows no store, no registry and no file system.
package layer

import "time"

// A Kind is what an entry is.
type Kind uint8

// The kinds of entries. A Whiteout hides Name, an Opaque all that lower layers
// have in the directory Name.
const (
	File Kind = iota + 1
	Dir
	Symlink
	Hardlink
	CharDevice
	BlockDevice
	Fifo
	Whiteout
	Opaque
)

// An Entry is one entry of a layer. Its content, that of a File, is read from
// the Reader.
type Entry struct {
	Kind Kind
	Name string // slash-separated and clean; "." is the root, which is a Dir or Opaque
	Link string // a Symlink's target as it stands, or a Hardlink's clean name

	Size     int64  // of a File, in bytes, holes included
	Mode     uint32 // permission bits, setuid, setgid and sticky, as Linux has them
	UID, GID uint32

	ModTime    time.Time
	AccessTime time.Time // zero where the layer doesn't tell it

	Major, Minor uint32            // of devices
	Xattrs       map[string]string // by their whole names; nil where there are none
}
