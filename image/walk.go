package image

import (
	"context"
	"errors"
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
	steps *steps

	// With own, the layer of root may have directories on the way that hide nothing,
	// and no more: else the error is errOrder, and before a link was followed errOwn,
	// but of a hard link, which may be to a link.
	own, followed bool

	met map[spot]bool // of links that were followed; nil keeps none
}

// A stop is a directory, or where none is.
type stop struct {
	name string
	part *part // nil where none is
}

// steps are what may still be taken: layers asked for a name, for the paths of one
// layer, however many layers there are below.
type steps int64

const (
	layerSteps = 256 << 10
	nodeSteps  = 64  // besides, for each name in it
	byteSteps  = 64  // bytes of a path that a link makes longer are a step
	maxLinks   = 255 // on one way
)

func stepsOf(ix *layer.Index) *steps {
	s := steps(layerSteps + nodeSteps*len(ix.Nodes))
	return &s
}

// take takes n steps.
func (s *steps) take(n int) error {
	if *s -= steps(n); *s < 0 {
		return fmt.Errorf("the ways to the layer's names lead through too many layers, or by too many links: %w", syscall.EFBIG)
	}
	return nil
}

// down takes the steps from one part down to another, or to where there is none.
func (s *steps) down(from, to *part) error {
	if to == nil {
		return s.take(1 + from.layer)
	}
	return s.take(1 + from.layer - to.layer)
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
		w.followed = true
		if strings.HasPrefix(link, "/") {
			w.way = nil
		}
		rest = link + "/" + rest
		if err := w.steps.take(len(rest) / byteSteps); err != nil {
			return err
		}
	}
	return nil
}

// look returns the directory of the name in the directory where w is, or where
// the link leads that is there.
func (w *walk) look(ctx context.Context, name string) (dir *part, link string, err error) {
	p, err := w.find(ctx, name)
	if err != nil || p == nil || p.kind() == layer.Dir {
		return p, "", err
	}
	if link, err = w.tree.linkOf(ctx, p, w.steps); link != "" && w.met != nil {
		w.met[p.spot()] = true
	}
	return nil, link, err
}

// find returns what has the name where w is, nil if nothing has.
func (w *walk) find(ctx context.Context, name string) (*part, error) {
	at := w.root
	if len(w.way) > 0 {
		at = w.way[len(w.way)-1].part
	}
	if at == nil {
		return nil, w.steps.take(1)
	}
	p, err := w.tree.first(ctx, at, name)
	if err != nil {
		return nil, err
	}
	if err := w.steps.down(at, p); err != nil {
		return nil, err
	}
	switch {
	case p == nil:
	case w.own && w.isOwn(p) && (w.followed || p.kind() == layer.Hardlink):
		return nil, fmt.Errorf("%.200q: %w", name, errOrder)
	case w.own && w.isOwn(p):
		return nil, errOwn
	case p.kind() == layer.Whiteout:
		return nil, nil
	}
	return p, nil
}

// errOwn is that the layer has something of its own.
var errOwn = errors.New("the layer's own")

func (w *walk) isOwn(p *part) bool {
	return p.layer == w.root.layer && (p.kind() != layer.Dir || p.inode().Opaque)
}

// linkOf returns where the link p leads, "" if p is none.
func (t *Tree) linkOf(ctx context.Context, p *part, s *steps) (string, error) {
	ino := p.inode()
	if ino.Kind == layer.Hardlink {
		f, err := t.target(ctx, p.layer-1, ino.Link(), s)
		if err != nil || f == nil {
			return "", err
		}
		ino = f.inode
	}
	if ino.Kind != layer.Symlink {
		return "", nil
	}
	return ino.Link(), nil
}
