package layer

import (
	"slices"
	"strings"
	"syscall"
)

// maxBefore bounds the paths in Index.Before together, in bytes: some hundred
// thousand, of a tar that has its directories behind what is in them.
const maxBefore = 16 << 20

// before returns Index.Before.
func (b *builder) before() ([]string, error) {
	gone := make([]int, b.nodes.count) // how many of led were there when it, or what it is in, was replaced or hidden
	for n := range b.nodes.count {
		gone[n] = max(b.hidden[n], gone[b.nodes.at(n).parent])
		if b.nodes.at(n).dead() {
			gone[n] = len(b.led)
		}
	}
	all, size := b.linked, 0
	for _, name := range all {
		size += len(name)
	}
	for i, n := range b.led {
		if i >= gone[n] && b.inode(n).Implied {
			continue
		}
		parts := []string(nil)
		for ; n != 0; n = b.nodes.at(n).parent {
			parts = append(parts, b.nodes.at(n).name)
		}
		slices.Reverse(parts)
		name := strings.Join(parts, "/")
		if size += len(name); size > maxBefore {
			break
		}
		all = append(all, name)
	}
	if size > maxBefore {
		return nil, &refusal{"names lead through too many directories whose entries come later", syscall.EFBIG}
	}
	return all, nil
}
