package image

import (
	"crypto/sha256"
	"maps"
	"slices"

	"distfs/layer"
)

// A rebuilt is a directory of an index that is made anew: what is united in it.
type rebuilt struct {
	nodes []uint32 // directories of the old index
	moved *moved
}

// rebuild returns the layer's index with what is moved in its new places. What an
// inode has of its own stays, its Node too.
func (s *settler) rebuild() *layer.Index {
	old := s.root.ix
	ix := *old
	ix.Nodes, ix.Inodes = []layer.Node{old.Nodes[0]}, old.Inodes.Clone()
	for _, n := range s.moved.nodes {
		root := ix.Inodes.At(old.Nodes[0].Inode)
		root.Opaque = root.Opaque || old.Inode(n).Opaque
	}
	dirs := []rebuilt{{append([]uint32{0}, s.moved.nodes...), &s.moved}} // of each of ix.Nodes
	for at := 0; at < len(ix.Nodes); at++ {
		in := s.inside(dirs[at])
		first := uint32(len(ix.Nodes))
		for _, name := range slices.Sorted(maps.Keys(in)) {
			inode, dir := s.unite(&ix, in[name])
			ix.Nodes = append(ix.Nodes, layer.Node{Name: name, Parent: uint32(at), Inode: inode})
			dirs = append(dirs, dir)
		}
		ix.Nodes[at].First, ix.Nodes[at].Count = first, uint32(len(ix.Nodes))-first
		dirs[at] = rebuilt{}
	}
	return &ix
}

// inside returns what of the old index gets each name in the directory.
func (s *settler) inside(dir rebuilt) map[string]rebuilt {
	in := make(map[string]rebuilt)
	for _, d := range dir.nodes {
		d := s.root.ix.Nodes[d]
		for n := d.First; n < d.First+d.Count; n++ {
			if !s.gone[n] {
				name := s.root.ix.Nodes[n].Name
				in[name] = rebuilt{nodes: append(in[name].nodes, n)}
			}
		}
	}
	if dir.moved != nil {
		for name, m := range dir.moved.below {
			r := rebuilt{nodes: append(in[name].nodes, m.nodes...)}
			if len(m.below) > 0 {
				r.moved = m
			}
			in[name] = r
		}
	}
	return in
}

// unite makes one name of several nodes: a directory if one of them is or it has
// what was moved below it, else what is no whiteout. It returns the directory's
// parts. Where it would have to choose, s meets.
func (s *settler) unite(ix *layer.Index, r rebuilt) (inode uint32, dir rebuilt) {
	old := s.root.ix
	if len(r.nodes) == 1 && r.moved == nil {
		inode = old.Nodes[r.nodes[0]].Inode
		if s.real[r.nodes[0]] {
			ix.Inodes.At(inode).Ghost = false
		}
		return inode, r
	}
	dir.moved = r.moved
	made := layer.Inode{Kind: layer.Dir, Implied: true, Mode: 0o755, Links: 1, Ghost: r.moved == nil || s.ghosts(r.moved)}
	var file *uint32 // the inode of what is no directory
	for _, n := range r.nodes {
		ino := old.Inode(n)
		if ino.Kind == layer.Dir {
			dir.nodes = append(dir.nodes, n)
			made = merged(made, *ino)
			made.Ghost = made.Ghost && !s.real[n]
			continue
		}
		switch {
		case file == nil || old.Inodes.At(*file).Kind == layer.Whiteout:
			file = &old.Nodes[n].Inode
		case ino.Kind != layer.Whiteout && !alike(ino, old.Inodes.At(*file)):
			s.meets = true
		}
	}
	switch {
	case file != nil && (made.Ghost || len(dir.nodes) == 0 && r.moved == nil):
		return *file, rebuilt{}
	case file != nil && old.Inodes.At(*file).Kind != layer.Whiteout:
		s.meets = true
	case file != nil:
		made.Opaque, made.Implied = true, false
	}
	return ix.Inodes.Add(made), dir
}

// alike says whether of two files, that have no other names, it does not matter which one is
// there: they are the same in all that can be told of them.
func alike(a, b *layer.Inode) bool {
	x, y := *a, *b
	if x.Kind == layer.Hardlink || x.Links != 1 || y.Links != 1 || x.Kind == layer.File && x.Digest == ([sha256.Size]byte{}) {
		return false
	}
	x.Node, x.Offset, x.Extra = y.Node, y.Offset, y.Extra
	amajor, aminor := a.Device()
	bmajor, bminor := b.Device()
	return x == y && a.Link() == b.Link() && amajor == bmajor && aminor == bminor && slices.Equal(a.Xattrs(), b.Xattrs())
}

// merged is a directory that is also another: of the first of the two that has an
// entry.
func merged(d, other layer.Inode) layer.Inode {
	ghost, opaque := d.Ghost && other.Ghost, d.Opaque || other.Opaque
	if d.Implied {
		d = other
	}
	d.Ghost, d.Opaque = ghost, opaque
	return d
}

// ghosts says whether all that is moved below only hides.
func (s *settler) ghosts(m *moved) bool {
	for _, n := range m.nodes {
		if !s.root.ix.Inode(n).Ghost {
			return false
		}
	}
	for _, b := range m.below {
		if !s.ghosts(b) {
			return false
		}
	}
	return true
}
