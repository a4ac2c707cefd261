package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"distfs/layer"
)

// A moved is what becomes of a directory of a layer: what of the layer is put into
// it besides, and into what is below it.
type moved struct {
	nodes []uint32
	below map[string]*moved
}

// settle returns the index of layer i as it is when what it has where the layers
// below have links is where these lead. An index without directories that have no
// entry is as it was.
func (t *Tree) settle(ctx context.Context, i int, ix *layer.Index) (*layer.Index, error) {
	if !slices.ContainsFunc(ix.Nodes[1:], func(n layer.Node) bool { return ix.Inodes[n.Inode].Implied }) {
		return ix, nil
	}
	steps := stepsOf(ix)
	for range maxNested {
		s := settler{tree: t, root: &part{ix: ix, layer: i}, steps: steps, gone: make(map[uint32]bool)}
		if err := s.directory(ctx, s.root); err != nil {
			return nil, err
		}
		if len(s.gone) == 0 {
			return ix, nil
		}
		ix = s.rebuild()
	}
	return nil, fmt.Errorf("layer %d: links lead to links: %w", i, syscall.ELOOP)
}

// maxNested is how often what was moved may be where a link is.
const maxNested = 40

// A settler finds what is to be moved.
type settler struct {
	tree  *Tree
	root  *part
	steps *steps
	gone  map[uint32]bool // what is moved away
	moved moved           // and where to, from the root
}

// directory looks at all that is in the directory p.
func (s *settler) directory(ctx context.Context, p *part) error {
	d := p.ix.Nodes[p.node]
	for n := d.First; n < d.First+d.Count; n++ {
		q := p.child(n)
		if q.kind() != layer.Dir {
			continue
		}
		link, err := s.link(ctx, q)
		if err == nil && link != "" {
			err = s.follow(ctx, q, link)
		} else if err == nil {
			err = s.directory(ctx, q)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// link returns where the link leads that the layers below have in the place of the
// directory p, "" if they have none, or p has an entry of its own.
func (s *settler) link(ctx context.Context, p *part) (string, error) {
	if !p.inode().Implied {
		return "", nil
	}
	for q := p; ; {
		low, err := s.tree.lower(ctx, q)
		if err != nil {
			return "", err
		}
		if err := s.steps.take(q, low); err != nil {
			return "", s.at(p, err)
		}
		if low == nil {
			return "", nil
		}
		if q = low; !q.isGhost() {
			return s.tree.linkOf(ctx, q, s.steps)
		}
	}
}

func (s *settler) at(p *part, err error) error {
	return fmt.Errorf("layer %d: %.200q: %w", p.layer, p.ix.Path(p.node), err)
}

// follow notes that what p has belongs where the link in its place leads.
func (s *settler) follow(ctx context.Context, p *part, link string) error {
	w := walk{tree: s.tree, root: s.root, links: maxLinks, steps: s.steps}
	for q := p.in; q.in != nil; q = q.in {
		w.way = append(w.way, stop{q.ix.Nodes[q.node].Name, q})
	}
	slices.Reverse(w.way)
	if strings.HasPrefix(link, "/") {
		w.way = nil
	}
	if err := w.to(ctx, link); err != nil {
		return s.at(p, err)
	}
	to := &s.moved
	for _, stop := range w.way {
		if to.below == nil {
			to.below = make(map[string]*moved)
		}
		if to.below[stop.name] == nil {
			to.below[stop.name] = &moved{}
		}
		to = to.below[stop.name]
	}
	to.nodes = append(to.nodes, p.node)
	s.gone[p.node] = true
	return nil
}
