package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mirrors is a remote of several sources for one host's content. They are asked
// in order, each for what those before it could not give. The last is the host
// itself, or what stands for it: its word that there is no such object is
// final.
//
// A source that could not be reached, stalled, or broke off is asked last for a
// while, and so is for an object who lacked it or answered nonsense: the next
// range does not wait again. Who sent wrong bytes of an object is not asked for
// it any more, unless all did.
//
// Each source is asked with its own host's credentials.
type mirrors struct {
	host     string
	list     []*source
	patience time.Duration // with a source, while there is another one
	equals   bool          // none of them is the host itself: none has the last word

	mu   sync.Mutex
	lied map[digest.Digest][]*source // guarded by mu
}

// A source is one remote of several.
type source struct {
	Remote
	name string // for messages, and to be told apart by
	host string // whose credentials it is asked with; "" it has none
	can  capability

	away  time.Time            // until then it is asked last; guarded by mirrors.mu
	lacks map[string]time.Time // likewise, for an object; guarded by mirrors.mu
}

const (
	maxPatience = 10 * time.Second
	awayFor     = 30 * time.Second
	maxAway     = 10 * time.Minute // where a source says itself when to come back
	maxLacks    = 4096             // objects that are remembered of a source
	maxLied     = 1024             // objects that are remembered of all
)

// newMirrors makes a remote of sources. However many of them stall, the last
// gets its share of the timeout.
func newMirrors(host string, list []*source, timeout time.Duration) *mirrors {
	for i, s := range list {
		s.lacks = make(map[string]time.Time)
		for _, other := range list[:i] {
			if other.name == s.name {
				s.name += fmt.Sprintf(" (source %d)", i+1)
			}
		}
	}
	return &mirrors{
		host: host, list: list, patience: min(timeout/time.Duration(len(list)+1), maxPatience),
		lied: make(map[digest.Digest][]*source),
	}
}

// A query is what sources are asked for.
type query struct {
	object string // how it is remembered
	dgst   digest.Digest
	need   capability
}

// Resolve asks for a tag only whom that is trusted to.
func (m *mirrors) Resolve(ctx context.Context, ref locator.Reference, accept []string) (ocispec.Descriptor, error) {
	q := query{object: ref.Path + ":" + ref.Tag, need: canResolve}
	if ref.Digest != "" {
		q = query{object: ref.Path + "@" + ref.Digest.String(), dgst: ref.Digest, need: canPull}
	}
	return askEach(ctx, m, q, func(ctx context.Context, s *source, w *vigil) (ocispec.Descriptor, error) {
		defer w.end()
		ref := ref
		ref.Locator = s.at(ref.Locator)
		return s.Resolve(ctx, ref, accept)
	})
}

// Get opens a range at the first source that has it.
func (m *mirrors) Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	q := query{object: loc.Path + "@" + desc.Digest.String(), dgst: desc.Digest, need: canPull}
	return askEach(ctx, m, q, func(sctx context.Context, s *source, w *vigil) (*Body, error) {
		body, err := s.Get(sctx, s.at(loc), desc, off, n)
		if err != nil {
			w.end()
			return nil, err
		}
		w.rest()
		body.Source = s.name
		body.ReadCloser = &vigilBody{
			body: body.ReadCloser, left: body.Len, vigil: w,
			failed: func(err error) {
				if ctx.Err() == nil {
					m.sendAway(s, err)
				}
			},
		}
		return body, nil
	})
}

// at is the repository as s is asked for it: its credentials are those of its
// own host.
func (s *source) at(loc locator.Locator) locator.Locator {
	if s.host != "" {
		loc.Host = s.host
	}
	return loc
}

// askEach asks one source after the other, until one answers.
func askEach[T any](ctx context.Context, m *mirrors, q query, ask func(context.Context, *source, *vigil) (T, error)) (T, error) {
	var none T
	order, good := m.order(q)
	if len(order) == 0 {
		return none, &kindError{fmt.Errorf("%s: no source that is trusted with it", m.host), iofs.ErrPermission}
	}
	var failed []refusal
	for i, s := range order {
		limit := m.patience
		if i >= good-1 { // nobody who would be quicker
			limit = 0
		}
		sctx, w := newVigil(ctx, s.name, limit)
		v, err := ask(sctx, s, w)
		if err == nil {
			return v, nil
		}
		err = w.why(err)
		if ctx.Err() != nil {
			return none, err
		}
		m.note(s, q, err)
		failed = append(failed, refusal{s, err})
		if s == m.upstream() && errors.Is(err, iofs.ErrNotExist) {
			break
		}
	}
	return none, m.useful(failed)
}

// upstream is the host itself, or nil.
func (m *mirrors) upstream() *source {
	if m.equals {
		return nil
	}
	return m.list[len(m.list)-1]
}

// order is whom to ask for q, and how many of them are in good standing: these
// come first.
func (m *mirrors) order(q query) (order []*source, good int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var last []*source
	for _, s := range m.list {
		switch {
		case s.can&q.need == 0 || slices.Contains(m.lied[q.dgst], s):
		case now.Before(s.away) || now.Before(s.lacks[q.object]):
			last = append(last, s)
		default:
			order = append(order, s)
		}
	}
	return append(order, last...), len(order)
}

// note remembers how s failed: as a whole, or with one object.
func (m *mirrors) note(s *source, q query, err error) {
	status, isStatus := errors.AsType[*StatusError](err)
	_, isBroken := errors.AsType[*brokenError](err)
	_, isSize := errors.AsType[*sizeError](err)
	ofObject := isBroken || isSize || errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrPermission) ||
		isStatus && (!status.Temporary() || status.Code == 500)
	if !ofObject {
		m.sendAway(s, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(s.lacks) >= maxLacks {
		clear(s.lacks)
	}
	s.lacks[q.object] = time.Now().Add(awayFor)
}

// sendAway has s asked last, for as long as it asked itself to be spared.
func (m *mirrors) sendAway(s *source, err error) {
	d := awayFor
	if status, ok := errors.AsType[*StatusError](err); ok {
		d = min(max(d, status.RetryAfter), maxAway)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.away = time.Now().Add(d)
}

// A refusal is how a source failed.
type refusal struct {
	s   *source
	err error
}

// useful makes one error of several. Its kind is that of the last source, which
// is the host itself, if that was asked; else of one that did not merely lack
// the object.
func (m *mirrors) useful(failed []refusal) error {
	best := failed[0]
	for _, f := range failed {
		if errors.Is(best.err, iofs.ErrNotExist) || f.s == m.upstream() {
			best = f
		}
	}
	if len(failed) == 1 {
		return best.err
	}
	var others []string
	for _, f := range failed {
		if f.s != best.s {
			others = append(others, f.s.name+": "+oneLine(f.err.Error()))
		}
	}
	return fmt.Errorf("%w (and %s)", best.err, strings.Join(others, "; "))
}
