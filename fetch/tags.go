package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"time"

	"distfs/locator"
)

// What a list of tags may be at most, and how much of the page before is
// remembered.
const (
	maxTags       = 1_000_000
	maxTagBytes   = 64 << 20 // of all answers together
	maxRemembered = 10_000   // tags
)

// ListTags yields loc's tags as its remote lists them, in its order, and asks
// for a page when the one before was taken. What is outside the grammar is left
// out. An error is the last that it yields; it is syscall.EIO at 1,000,000
// tags, at 64 MiB, after a page with nothing new that leads to another, and
// where a page leads to another origin. Offline they are the tags that were
// resolved before, sorted.
//
// Who takes them may stop between two for as long as he likes; without progress
// otherwise it ends as all requests do, and when ctx does.
func (f *Fetcher) ListTags(ctx context.Context, loc locator.Locator) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		enough := false
		err := f.listTags(ctx, loc, func(tag string) error {
			if !yield(tag, nil) {
				enough = true
				return errEnough
			}
			return nil
		})
		if err != nil && !enough {
			yield("", fmt.Errorf("tags of %s: %w", loc, err))
		}
	}
}

// errEnough is that who takes tags wants no more.
var errEnough = errors.New("no more tags are wanted")

func (f *Fetcher) listTags(ctx context.Context, loc locator.Locator, yield func(string) error) error {
	if f.opts.Offline {
		held, err := f.Tags(loc)
		for _, tag := range slices.Sorted(maps.Keys(held)) {
			if !isTag(tag) {
				continue
			}
			if err := yield(tag); err != nil {
				return err
			}
		}
		return err
	}
	remote, err := f.remotes.of(loc.Host)
	if err != nil {
		return err
	}
	l := &tagList{f: f, from: remote, loc: loc, yield: yield}
	return l.run(ctx)
}

// A tagList is one walk through the pages of a list.
type tagList struct {
	f     *Fetcher
	from  Remote
	loc   locator.Locator
	yield func(string) error

	n    int   // names so far
	read int64 // bytes so far
	loop loop
	past map[string]bool // names of the page before
}

func (l *tagList) run(ctx context.Context) error {
	for page := ""; ; {
		p := &tagPage{list: l, names: make(map[string]bool)}
		p.hash.SetSeed(l.loop.seed())
		next, err := p.take(ctx, page)
		if err != nil || next == "" {
			return err
		}
		if p.isNew == 0 || l.loop.seen(p.hash.Sum64()) {
			return broken("a page with nothing new leads to another one")
		}
		l.past, page = p.names, next
	}
}

// A tagPage is a page that is being taken.
type tagPage struct {
	list  *tagList
	taken int // names that need not be taken again
	isNew int // of these, those that were not on the page before
	names map[string]bool
	hash  maphash.Hash
}

// take takes a page, and tries again what may succeed: names that were taken
// before it reads past.
func (p *tagPage) take(ctx context.Context, page string) (next string, err error) {
	for patience := newPatience(p.list.f.opts.Timeout); ; {
		before := p.taken
		next, err = p.try(ctx, page)
		if err == nil || errors.Is(err, errEnough) {
			return next, err
		}
		if p.taken > before {
			patience.renew()
		}
		if d, again := patience.pause(ctx, err); !again || !sleep(ctx, d) {
			return "", err
		}
	}
}

// try asks once. The clock stands while a name is being taken.
func (p *tagPage) try(ctx context.Context, page string) (next string, err error) {
	l, timeout := p.list, p.list.f.opts.Timeout
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clock := time.AfterFunc(timeout, func() { cancel(errStalled(timeout)) })
	defer clock.Stop()
	i := 0
	next, n, err := l.from.ListTags(ctx, l.loc, page, maxTagBytes-l.read, func(name string) error {
		i++
		if i <= p.taken {
			return nil
		}
		if isTag(name) { // what is none is no progress
			clock.Stop()
			defer clock.Reset(timeout)
		}
		return p.add(name)
	})
	l.read += n
	if err == nil && l.read >= maxTagBytes {
		err = broken("more than %d bytes", maxTagBytes)
	}
	return next, kind(ctx, err)
}

// add takes a name. What the page before had, or this one, is not told again.
func (p *tagPage) add(name string) error {
	l := p.list
	if l.n == maxTags {
		return broken("more than %d tags", maxTags)
	}
	l.n++
	p.taken++
	maphash.WriteComparable(&p.hash, name)
	if p.names[name] || l.past[name] || !isTag(name) {
		return nil
	}
	p.isNew++
	if len(p.names) < maxRemembered {
		p.names[name] = true
	}
	return l.yield(name)
}

func isTag(name string) bool { return locator.CheckTag(name) == nil }

// A loop finds out that a sequence goes round, in constant memory: it compares
// with one earlier value, and takes a later one for that ever more seldom
// (Brent, "An improved Monte Carlo factorization algorithm", section 2).
type loop struct {
	hash        maphash.Hash // its seed alone
	saved       uint64
	steps, turn int
}

func (l *loop) seed() maphash.Seed { return l.hash.Seed() }

// seen says whether the sequence, to which it adds v, is known to go round.
func (l *loop) seen(v uint64) bool {
	if l.turn > 0 && v == l.saved {
		return true
	}
	if l.steps++; l.steps > l.turn {
		l.saved, l.steps, l.turn = v, 0, max(1, 2*l.turn)
	}
	return false
}
