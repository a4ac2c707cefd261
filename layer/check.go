package layer

import (
	"fmt"
	"math"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// check says what of the Index is not as the types' comments have it, so that who
// reads it would go wrong.
func (ix *Index) check() error {
	if ix.View > ViewHeld || ix.Format > ZstdChunked {
		return wrong("format", int(ix.Format))
	}
	if ix.DiffID != "" && (ix.DiffID.Validate() != nil || ix.DiffID.Algorithm() != digest.SHA256) {
		return &refusal{"an index with a wrong diffID", syscall.EINVAL}
	}
	for _, check := range []func() error{ix.checkSpans, ix.checkNodes, ix.checkInodes} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func wrong(what string, n int) error {
	return &refusal{fmt.Sprintf("an index with a wrong %s %d", what, n), syscall.EINVAL}
}

func (ix *Index) checkSpans() error {
	out := int64(0)
	for i := range ix.Spans {
		s := &ix.Spans[i]
		switch {
		case s.Kind > Zeros, s.Out != out, s.Size <= 0, s.Size > math.MaxInt64-out,
			s.Off < 0, s.Len < 0, s.Len > math.MaxInt64-s.Off, s.Skip < 0, s.Skip > math.MaxInt64-s.Size,
			s.Kind != Deflate && (s.Bits > 0 || s.Window != nil), s.Bits > 7, s.Kind == Zeros && s.Digest != sum{}:
			return wrong("span", i)
		}
		out += s.Size
	}
	if out != ix.Length {
		return wrong("length", int(ix.Length))
	}
	return nil
}

// checkNodes also holds the inodes to their nodes.
func (ix *Index) checkNodes() error {
	if len(ix.Nodes) == 0 || len(ix.Nodes) > math.MaxUint32 || ix.Nodes[0].Name != "" || ix.Nodes[0].Parent != 0 {
		return wrong("node", 0)
	}
	links := make([]uint32, ix.Inodes.Len())
	next, named := uint64(1), uint32(0)
	depth, level := 0, uint64(0) // below the root; where the nodes of that depth end
	for i := range ix.Nodes {
		n := &ix.Nodes[i]
		if uint64(i) > level {
			depth, level = depth+1, next-1
		}
		switch {
		case uint64(i) >= next, depth > MaxDepth, uint64(n.First) != next, next+uint64(n.Count) > uint64(len(ix.Nodes)):
			return wrong("node", i)
		case n.Inode > named, uint64(n.Inode) >= uint64(len(links)):
			return wrong("inode of node", i)
		case (i == 0 || n.Count > 0) && ix.Inodes.At(n.Inode).Kind != Dir:
			return wrong("directory, node", i)
		}
		if n.Inode == named {
			named++
		}
		links[n.Inode]++
		if err := ix.checkChildren(uint32(i)); err != nil {
			return err
		}
		next += uint64(n.Count)
	}
	if next != uint64(len(ix.Nodes)) || uint64(named) != uint64(len(links)) {
		return wrong("number of inodes,", len(links))
	}
	for i, ino := range ix.Inodes.All() {
		if ino.Links != links[i] || ino.Links > 1 && ino.Kind == Dir ||
			uint64(ino.Node) >= uint64(len(ix.Nodes)) || ix.Nodes[ino.Node].Inode != i {
			return wrong("node of inode", int(i))
		}
	}
	return nil
}

func (ix *Index) checkChildren(n uint32) error {
	before := ""
	for _, child := range ix.Children(n) {
		name := child.Name
		if child.Parent != n || name <= before || len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return wrong("name in node", int(n))
		}
		before = name
	}
	return nil
}

func (ix *Index) checkInodes() error {
	for i, ino := range ix.Inodes.All() {
		more := ino.extra()
		isLink := ino.Kind == Symlink || ino.Kind == Hardlink
		isFile := ino.Kind == File
		switch {
		case ino.Kind < File, ino.Kind > Whiteout, ino.Mode > 0o7777, ino.Nanoseconds >= 1e9,
			ino.Kind != Dir && (ino.Implied || ino.Ghost || ino.Opaque),
			!isLink && more.Link != "",
			!isFile && (ino.Size != 0 || ino.Offset != 0 || ino.Digest != sum{} || more.Data != nil),
			isFile && !ix.inStream(ino):
			return wrong("inode", int(i))
		}
		for j, x := range more.Xattrs {
			if j > 0 && x.Name <= more.Xattrs[j-1].Name {
				return wrong("order of attributes in inode", int(i))
			}
		}
	}
	return nil
}

// inStream says whether the content of a file lies in the stream.
func (ix *Index) inStream(ino *Inode) bool {
	within := func(off, length int64) bool { return off >= 0 && length >= 0 && length <= ix.Length-off }
	data := ino.Data()
	if data == nil || ino.Size < 0 || ino.Offset < 0 {
		return within(ino.Offset, ino.Size)
	}
	end := int64(0)
	for _, s := range data {
		if s.At < end || s.Length <= 0 || s.Length > ino.Size-s.At || !within(s.Offset, s.Length) {
			return false
		}
		end = s.At + s.Length
	}
	return true
}
