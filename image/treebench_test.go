package image_test

import (
	"context"
	"fmt"
	"testing"

	"distfs/image"
	"distfs/internal/testlayer"
	"distfs/layer"
)

// debian makes layers as those of a Debian image: so many names in all, the lowest
// layer with nearly all, some directories in every one.
func debian(b *testing.B, names, layers int) []*layer.Index {
	b.Helper()
	var all []*layer.Index
	for l := range layers {
		n := names / 100
		if l == 0 {
			n = names - (layers-1)*n
		}
		files := []testlayer.File{testlayer.Dir("usr/")}
		for i := range n {
			if i%20 == 0 {
				files = append(files, testlayer.Dir(fmt.Sprintf("usr/d%d", i/20)))
				continue
			}
			files = append(files, testlayer.Reg(fmt.Sprintf("usr/d%d/f%d-%d", i/20, l, i), ""))
		}
		all = append(all, made(b, testlayer.Tar(b, files...)))
	}
	return all
}

// BenchmarkWalk looks up and lists all of 22,000 names in four layers.
func BenchmarkWalk(b *testing.B) {
	all := debian(b, 22_000, 4)
	b.ReportAllocs()
	for b.Loop() {
		t, names := tree(all...), 0
		var walk func(dir *image.File)
		walk = func(dir *image.File) {
			items, err := t.List(context.Background(), dir)
			if err != nil {
				b.Fatal(err)
			}
			for _, item := range items {
				f, err := t.Lookup(context.Background(), dir, item.Name)
				if err != nil {
					b.Fatal(err)
				}
				if names++; f.IsDir() {
					walk(f)
				} else if _, err := t.Links(context.Background(), f); err != nil {
					b.Fatal(err)
				}
			}
		}
		walk(nil)
		b.ReportMetric(float64(names), "names")
	}
}

// BenchmarkList lists a directory of a million names, of one layer and of four.
func BenchmarkList(b *testing.B) {
	for _, layers := range []int{1, 4} {
		b.Run(fmt.Sprint(layers), func(b *testing.B) {
			var all []*layer.Index
			for l := range layers {
				ix := &layer.Index{Nodes: []layer.Node{{First: 1}}, Inodes: layer.Inodes{{{Kind: layer.Dir, Links: 1}}}}
				for i := l; i < 1_000_000; i += layers {
					ix.Nodes = append(ix.Nodes, layer.Node{Name: fmt.Sprintf("file-%07d", i), Inode: uint32(ix.Inodes.Len())})
					ix.Inodes.Add(layer.Inode{Kind: layer.File, Node: uint32(len(ix.Nodes) - 1), Links: 1})
					ix.Nodes[0].Count++
				}
				all = append(all, ix)
			}
			t := tree(all...)
			b.ReportAllocs()
			for b.Loop() {
				if items, err := t.List(context.Background(), nil); err != nil || len(items) != 1_000_000 {
					b.Fatal(len(items), err)
				}
			}
		})
	}
}
