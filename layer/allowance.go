package layer

import (
	"syscall"
	"unsafe"
)

// maxTreeBytes bounds a layer's tree in memory. Little can make much of it: a name
// brings the directories above it into being.
const maxTreeBytes = 1 << 30

// An allowance is how many bytes a tree may still take.
type allowance int64

// add has the tree take an entry, and counts what that takes.
func (a *allowance) add(tree *builder, e *Entry, at place) error {
	nodes, inodes := len(tree.nodes), tree.inodes.Len()
	if err := tree.add(e, at); err != nil {
		return err
	}
	taken := int64(len(e.Link)) + int64(len(at.data))*int64(unsafe.Sizeof(Segment{}))
	for name, value := range e.Xattrs {
		taken += int64(len(name)+len(value)) + int64(unsafe.Sizeof(Xattr{}))
	}
	taken += int64(len(tree.nodes)-nodes) * (int64(unsafe.Sizeof(built{})) + maxName)
	taken += int64(tree.inodes.Len()-inodes) * int64(unsafe.Sizeof(Inode{})+unsafe.Sizeof(Extra{}))
	if *a -= allowance(taken); *a < 0 {
		return &refusal{"the layer's tree is too large", syscall.EFBIG}
	}
	return nil
}
