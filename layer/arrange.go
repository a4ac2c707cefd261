package layer

import (
	"slices"
	"strings"
)

// finish lays the tree out as an Index has it. The builder is done with.
func (b *builder) finish() (nodes []Node, inodes Inodes) {
	b.byName = nameTable{}
	l := arrangement{b: b, packed: make([]uint32, b.inodes.Len()), first: make([]uint32, b.inodes.Len())}
	kids, live := b.kids()
	nodes, l.order = make([]Node, 1, live+1), make([]uint32, 1, live+1)
	l.take(&nodes[0], 0, 0)
	for at := 0; at < len(nodes); at++ { // breadth first
		list := kids(l.order[at])
		slices.SortFunc(list, func(x, y uint32) int { return strings.Compare(b.nodes.at(x).name, b.nodes.at(y).name) })
		nodes[at].First, nodes[at].Count = uint32(len(nodes)), uint32(len(list))
		for _, old := range list {
			nodes = append(nodes, Node{Name: b.nodes.at(old).name, Parent: uint32(at)})
			l.order = append(l.order, old)
			l.take(&nodes[len(nodes)-1], uint32(len(nodes)-1), old)
		}
	}
	b.nodes = builtNodes{}
	return nodes, l.pack()
}

// An arrangement is a tree that is brought into the order of an Index.
type arrangement struct {
	b      *builder
	order  []uint32 // the number in the archive of each node
	packed []uint32 // which an inode is in the end, plus one; 0: none
	first  []uint32 // the first of its names in the archive, as it was numbered there
	live   uint32   // inodes
}

// take notes that a node's inode has the node, which is n, and was old in the archive.
func (l *arrangement) take(node *Node, n, old uint32) {
	i := l.b.nodes.at(old).inode
	ino := l.b.inodes.At(i)
	if l.packed[i] == 0 {
		l.live++
		l.packed[i], l.first[i], ino.Node = l.live, old, n
	}
	ino.Links++
	if old < l.first[i] {
		l.first[i], ino.Node = old, n
	}
	node.Inode = l.packed[i] - 1
}

// pack returns the live inodes in their order, in the place of all.
func (l *arrangement) pack() Inodes {
	inodes := l.b.inodes
	for i := range l.packed {
		for l.packed[i] > 0 && l.packed[i]-1 != uint32(i) {
			to := l.packed[i] - 1
			x, y := inodes.At(uint32(i)), inodes.At(to)
			*x, *y = *y, *x
			l.packed[i], l.packed[to] = l.packed[to], l.packed[i]
		}
	}
	inodes.cut(l.live)
	return inodes
}

// kids returns a function that gives the children of a node that are not dead, and
// how many there are at most.
func (b *builder) kids() (of func(n uint32) []uint32, count int) {
	end := make([]uint32, b.nodes.count+1) // where those of each end in list
	for n := uint32(1); n < b.nodes.count; n++ {
		if node := b.nodes.at(n); !node.dead() {
			end[node.parent+1]++
			count++
		}
	}
	for i := range end[1:] {
		end[i+1] += end[i]
	}
	list := make([]uint32, count)
	for n := uint32(1); n < b.nodes.count; n++ { // first those that each has before it begin where it ends
		if node := b.nodes.at(n); !node.dead() {
			list[end[node.parent]] = n
			end[node.parent]++
		}
	}
	return func(n uint32) []uint32 {
		begin := uint32(0)
		if n > 0 {
			begin = end[n-1]
		}
		return list[begin:end[n]]
	}, count
}
