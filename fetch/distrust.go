package fetch

import (
	"maps"
	"slices"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
)

// A distruster is a remote that has a choice whom to ask.
type distruster interface {
	// Distrust says that what from sent of loc's object dgst was wrong, or some of
	// it. It returns whether a source is left that was not found to lie.
	Distrust(loc locator.Locator, dgst digest.Digest, from []string) bool
}

// sentBy remembers whose bytes p holds.
func (p *pull) sentBy(body *Body) {
	if body.Source == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.senders == nil {
		p.senders = make(map[string]bool)
	}
	p.senders[body.Source] = true
}

// distrust tells the remote that what it sent since the last call was wrong,
// and returns whether others can be asked for the same. The lock is held.
func (p *pull) distrust() (others bool) {
	from := slices.Sorted(maps.Keys(p.senders))
	p.senders = nil
	d, ok := p.remote.(distruster)
	return ok && len(from) > 0 && d.Distrust(p.loc, p.desc.Digest, from)
}

// Distrust has the sources of that name not asked for dgst any more. Of several
// any may have lied, and the host itself is blamed last. When nobody is left
// all are forgiven, so that the object can be read once they are good again. Where
// none is of that name nothing was learned, and no other try would be better.
func (m *mirrors) Distrust(_ locator.Locator, dgst digest.Digest, from []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	lied := m.lied[dgst]
	left, told := false, false
	for _, s := range m.list {
		told = told || slices.Contains(from, s.name)
		switch {
		case s.can&canPull == 0 || slices.Contains(lied, s):
		case slices.Contains(from, s.name) && (s != m.upstream() || len(from) == 1):
			lied = append(lied, s)
		default:
			left = true
		}
	}
	if !told {
		return false
	}
	if !left {
		delete(m.lied, dgst)
		return false
	}
	if len(m.lied) >= maxLied {
		clear(m.lied)
	}
	m.lied[dgst] = lied
	return true
}
