package image

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"distfs/layer"
)

// A walk goes along paths in the tree of some layers as unpacking does: links are
// followed, with the tree's root for the root, and what is not there is walked
// through as a directory would be.
type walk struct {
	tree  *Tree
	root  *part
	way   []stop // from below the root to where it is
	links int    // that it may still follow
	steps *int64 // that it may still take: layers asked for a name
}

// A stop is a directory, or where none is.
type stop struct {
	name string
	part *part // nil where none is
}

// What the paths of one layer may cost, however many layers there are below.
const (
	layerSteps = 256 << 10
	nodeSteps  = 64  // besides, for each name in it
	maxLinks   = 255 // on one way
)

func stepsOf(ix *layer.Index) *int64 {
	steps := int64(layerSteps + nodeSteps*len(ix.Nodes))
	return &steps
}

func (w *walk) top() *part {
	if len(w.way) == 0 {
		return w.root
	}
	return w.way[len(w.way)-1].part
}

// to goes on along path.
func (w *walk) to(ctx context.Context, path string) error {
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			w.way = w.way[:max(len(w.way)-1, 0)]
			continue
		}
		p, link, err := w.look(ctx, name)
		switch {
		case err != nil:
			return err
		case link == "" && len(w.way) >= layer.MaxDepth:
			return syscall.ENAMETOOLONG
		case link == "":
			w.way = append(w.way, stop{name, p})
			continue
		}
		if w.links--; w.links < 0 {
			return syscall.ELOOP
		}
		if strings.HasPrefix(link, "/") {
			w.way = nil
		}
		rest = link + "/" + rest
	}
	return nil
}

// look returns the directory of the name in the directory where w is, or where
// the link leads that is there.
func (w *walk) look(ctx context.Context, name string) (dir *part, link string, err error) {
	at := w.top()
	if at == nil {
		return nil, "", w.step(nil, nil)
	}
	p, err := w.tree.find(ctx, at, name)
	if err == nil {
		err = w.step(at, p)
	}
	if err != nil || p == nil || p.kind() == layer.Dir {
		return p, "", err
	}
	link, err = w.tree.linkOf(ctx, p)
	return nil, link, err
}

// step takes the steps from one part down to another.
func (w *walk) step(from, to *part) error { return step(w.steps, from, to) }

func step(steps *int64, from, to *part) error {
	*steps--
	if from != nil {
		*steps -= int64(from.layer)
	}
	if to != nil {
		*steps += int64(to.layer)
	}
	if *steps < 0 {
		return fmt.Errorf("its names lead through too many layers, or too many links: %w", syscall.EFBIG)
	}
	return nil
}

// linkOf returns where the link p leads, "" if p is none.
func (t *Tree) linkOf(ctx context.Context, p *part) (string, error) {
	f, err := t.file(ctx, p)
	if err != nil || f == nil || f.inode.Kind != layer.Symlink {
		return "", err
	}
	return f.inode.Link, nil
}
