package image

import (
	"context"
	"fmt"
	"path"
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

// settle returns the index of layer i as it is over the layers below. What it has
// where these have links is where the links lead; of the directories that are there
// only for what is hidden below them, none is left: each is an implied one, where
// the layers below have it, or not there. An index without directories that have no
// entry is as it was.
func (t *Tree) settle(ctx context.Context, i int, ix *layer.Index) (*layer.Index, error) {
	steps := stepsOf(ix)
	if err := t.before(ctx, i, ix.Before, steps); err != nil {
		return nil, fmt.Errorf("layer %d: %w", i, err)
	}
	if !slices.ContainsFunc(ix.Nodes[1:], func(n layer.Node) bool { return ix.Inodes.At(n.Inode).Implied }) {
		return ix, nil
	}
	links := make(map[spot]bool)
	for range maxNested {
		s := settler{tree: t, root: &part{ix: ix, layer: i}, steps: steps, links: links, gone: make(map[uint32]bool), real: make(map[uint32]bool)}
		if err := s.directory(ctx, s.root); err != nil {
			return nil, err
		}
		if len(s.gone)+len(s.real) == 0 {
			return ix, s.stand()
		}
		if ix = s.rebuild(); s.meets {
			return nil, fmt.Errorf("layer %d: %w", i, errOrder)
		}
	}
	return nil, fmt.Errorf("layer %d: links lead to links: %w", i, syscall.ELOOP)
}

// errOrder is of a layer that has two things under one name, or a name by a link
// of the layers below and something else in the place of that link, or of where it
// leads: what they make depends on which the layer had first. An index does not tell,
// and what is hidden by a guess would be hidden from whoever looks for it.
var errOrder = fmt.Errorf("names lead through links of the layers below to names of the layer's own: %w", syscall.EINVAL)

// before is not nil if layer i had names below one of the paths while the layers
// below have a link there.
func (t *Tree) before(ctx context.Context, i int, paths []string, steps *steps) error {
	if i == 0 || len(paths) == 0 {
		return nil
	}
	root, err := t.root(ctx, i-1)
	if err != nil {
		return err
	}
	for _, name := range paths {
		above, base := path.Split(name)
		w := walk{tree: t, root: root, links: maxLinks, steps: steps}
		if err := w.to(ctx, above); err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
		_, link, err := w.look(ctx, base)
		if err == nil && link != "" {
			err = errOrder
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
	}
	return nil
}

// maxNested is how often what was moved may be where a link is.
const maxNested = 40

// A settler finds what is to be changed.
type settler struct {
	tree  *Tree
	root  *part
	steps *steps
	links map[spot]bool   // of the layers below, that were followed
	gone  map[uint32]bool // what is no longer in its place
	real  map[uint32]bool // what was there for what is hidden below it, and is there
	moved moved           // where what is gone is, from the root
	meets bool            // what is moved met something else under its name
}

// directory looks at all that is in the directory p.
func (s *settler) directory(ctx context.Context, p *part) error {
	d := p.ix.Nodes[p.node]
	for n := d.First; n < d.First+d.Count; n++ {
		q := p.child(n)
		if q.kind() != layer.Dir {
			continue
		}
		if q.inode().Implied {
			if err := s.implied(ctx, q); err != nil {
				return err
			}
		}
		if s.gone[n] {
			continue
		}
		if err := s.directory(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// implied looks at what the layers below have in the place of the directory p.
func (s *settler) implied(ctx context.Context, p *part) error {
	low, err := s.tree.lower(ctx, p)
	if err != nil {
		return err
	}
	if err := s.steps.down(p, low); err != nil {
		return s.at(p, err)
	}
	link := ""
	if low != nil {
		if link, err = s.tree.linkOf(ctx, low, s.steps); err != nil {
			return err
		}
	}
	isDir := low != nil && low.kind() == layer.Dir
	switch {
	case link != "":
		s.links[low.spot()] = true
		return s.follow(ctx, p, link)
	case p.inode().Ghost && isDir:
		s.real[p.node] = true
	case p.inode().Ghost:
		s.gone[p.node] = true
	}
	return nil
}

// stand says whether the links that were followed are there still: what was moved may
// be in the place of one.
func (s *settler) stand() error {
	for l := range s.links {
		if name := s.tree.ix(l).Path(l.node); has(s.root.ix, name) {
			return fmt.Errorf("layer %d: %.200q: %w", s.root.layer, name, errOrder)
		}
	}
	return nil
}

func (s *settler) at(p *part, err error) error {
	return fmt.Errorf("layer %d: %.200q: %w", p.layer, p.ix.Path(p.node), err)
}

// follow notes that what p has belongs where the link in its place leads.
func (s *settler) follow(ctx context.Context, p *part, link string) error {
	w := walk{tree: s.tree, root: s.root, links: maxLinks, steps: s.steps, own: true, followed: true, met: s.links}
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
	names := make([]string, len(w.way))
	for i, stop := range w.way {
		names[i] = stop.name
	}
	if err := s.put(p.node, names); err != nil {
		return s.at(p, err)
	}
	s.gone[p.node] = true
	return nil
}

// put has what node is be under that path too.
func (s *settler) put(node uint32, path []string) error {
	to := &s.moved
	for _, name := range path {
		below := to.below[name]
		if below == nil {
			if err := s.steps.take(nodeSteps); err != nil { // it takes as much memory as a name
				return err
			}
			if to.below == nil {
				to.below = make(map[string]*moved)
			}
			below = &moved{}
			to.below[name] = below
		}
		to = below
	}
	to.nodes = append(to.nodes, node)
	return nil
}
