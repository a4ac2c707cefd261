package layer

import (
	"syscall"
	"unsafe"
)

// maxTreeBytes bounds a layer's tree in memory, with the chunks of a table of
// contents. Little can make much of it: a name brings the directories above it into
// being.
const maxTreeBytes = 1 << 30

// An allowance is how many bytes a tree may still take.
type allowance int64

// add has the tree take an entry, and counts what that takes.
func (a *allowance) add(tree *builder, e *Entry, at place) error {
	before := tree.bytes()
	if err := tree.add(e, at); err != nil {
		return err
	}
	taken := tree.bytes() - before
	if e.Link != "" || at.data != nil || len(e.Xattrs) > 0 {
		taken += int64(unsafe.Sizeof(Extra{}))
	}
	taken += int64(len(at.data))*int64(unsafe.Sizeof(Segment{})) + int64(len(e.Xattrs))*int64(unsafe.Sizeof(Xattr{}))
	return a.take(taken)
}

// take counts n bytes.
func (a *allowance) take(n int64) error {
	if *a -= allowance(n); *a < 0 {
		return &refusal{"the layer's tree is too large", syscall.EFBIG}
	}
	return nil
}

// bytes are what the tree takes, and will in an Index, but for what few inodes have.
func (b *builder) bytes() int64 {
	return int64(b.nodes.count)*int64(unsafe.Sizeof(built{})+unsafe.Sizeof(Node{})) +
		int64(b.inodes.Len())*int64(unsafe.Sizeof(Inode{})) + int64(b.texts.taken)
}
