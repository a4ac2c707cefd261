package layer

import (
	"fmt"
	"slices"
	"syscall"
)

// A DifferenceError is that a layer's table of contents says something else than its
// tar. It is syscall.EIO.
type DifferenceError struct {
	Path string // where they first differ
	What string // in what: name (one of the two lacks it), type, size, mode, owner, time, link, device, extended attributes, content, or the order of what is below it
}

func (e *DifferenceError) Error() string {
	return fmt.Sprintf("the table of contents is not that of the tar: %.200q has another %s", e.Path, e.What)
}

// Is makes it syscall.EIO.
func (e *DifferenceError) Is(target error) bool { return target == syscall.EIO }

// Compare holds a table of contents against the tar of the same layer, in what that
// format can express: an eStargz has whole seconds. The error is a *DifferenceError.
func Compare(toc, tar *Index) error {
	c := comparison{toc: toc, tar: tar, of: make(map[uint32]uint32)}
	if err := c.dir(0, 0); err != nil {
		return err
	}
	if !slices.Equal(toc.Before, tar.Before) {
		return c.differ(0, "order of what is below it")
	}
	return nil
}

type comparison struct {
	toc, tar *Index
	of       map[uint32]uint32 // which inode of the tar one of the table's is, of those with several names
}

// dir compares two directories and all below them, without recursion: there are as
// many as a layer says.
func (c *comparison) dir(a, b uint32) error {
	for next := [][2]uint32{{a, b}}; len(next) > 0; {
		a, b := next[len(next)-1][0], next[len(next)-1][1]
		next = next[:len(next)-1]
		if what := c.inode(a, b); what != "" {
			return c.differ(a, what)
		}
		da, db := c.toc.Nodes[a], c.tar.Nodes[b]
		for i := range max(da.Count, db.Count) {
			x, y := da.First+i, db.First+i
			switch {
			case i >= da.Count || i < db.Count && c.tar.Nodes[y].Name < c.toc.Nodes[x].Name:
				return &DifferenceError{c.tar.Path(y), "name"} // which the table hides
			case i >= db.Count || c.tar.Nodes[y].Name != c.toc.Nodes[x].Name:
				return c.differ(x, "name")
			}
			next = append(next, [2]uint32{x, y})
		}
	}
	return nil
}

func (c *comparison) differ(n uint32, what string) error {
	return &DifferenceError{c.toc.Path(n), what}
}

// inode returns what is not the same of two nodes.
func (c *comparison) inode(a, b uint32) string {
	x, y := c.toc.Inode(a), c.tar.Inode(b)
	switch {
	case x.Kind != y.Kind || x.Implied != y.Implied || x.Ghost != y.Ghost || x.Opaque != y.Opaque:
		return "type"
	case x.Size != y.Size:
		return "size"
	case x.Mode != y.Mode:
		return "mode"
	case x.UID != y.UID || x.GID != y.GID:
		return "owner"
	case !c.sameTime(x, y):
		return "time"
	case x.Link() != y.Link() || x.Links != y.Links || !c.sameLinks(a, b):
		return "link"
	case !sameDevice(x, y):
		return "device"
	case !slices.Equal(x.Xattrs(), y.Xattrs()):
		return "extended attributes"
	case x.Kind == File && !sameContent(x, y):
		return "content"
	}
	return ""
}

func (c *comparison) sameTime(x, y *Inode) bool {
	if c.toc.Format != EStargz {
		return x.Seconds == y.Seconds && x.Nanoseconds == y.Nanoseconds
	}
	// Some round, and some cut off.
	return x.Seconds == y.Seconds || y.Nanoseconds >= 5e8 && x.Seconds == y.Seconds+1
}

// sameLinks says whether two nodes are further names of the same.
func (c *comparison) sameLinks(a, b uint32) bool {
	i, j := c.toc.Nodes[a].Inode, c.tar.Nodes[b].Inode
	if c.toc.Inodes.At(i).Links < 2 {
		return true
	}
	is, met := c.of[i]
	c.of[i] = j
	return !met || is == j
}

func sameDevice(x, y *Inode) bool {
	a, b := x.extra(), y.extra()
	return a.Major == b.Major && a.Minor == b.Minor
}

// sameContent compares the digest that the table has with the one of the tar, where
// that is known: of a file with large holes the pass over the tar takes none. A table
// without one says nothing of the content, for its chunks may be any of the layer.
func sameContent(x, y *Inode) bool {
	return x.Digest == y.Digest || y.Digest == (sum{})
}
