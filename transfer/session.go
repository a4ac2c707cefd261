package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A session is an image on its way into the store. Everything of it is a part,
// which is held from before it is looked for until the session ends: what was
// found in the store is there still when the image gets its name.
type session struct {
	src    Source
	loc    locator.Locator
	report Report

	// One goroutine gathers what there is; when it is done these don't change.
	docs  map[digest.Digest]*document // that were read
	read  int64                       // bytes of documents, read or to be
	parts map[digest.Digest]*part
	size  int64 // of all parts

	mu    sync.Mutex
	order []*part // in the order in which they are to be fetched; guarded by mu, for who tells of them

	stop func() // ends who tells of the parts
}

func newSession(src Source, loc locator.Locator, report Report) *session {
	s := &session{src: src, loc: loc, report: report, docs: make(map[digest.Digest]*document), parts: make(map[digest.Digest]*part)}
	s.stop = s.watch()
	return s
}

func (s *session) close() {
	s.stop()
	for _, p := range s.all() {
		if p.unhold != nil {
			p.unhold()
		}
	}
}

func (s *session) all() []*part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// maxParts is how many objects an image may have, all its platforms together.
const maxParts = 10_000

// add makes desc a part that is not read, unless it is one.
func (s *session) add(desc ocispec.Descriptor) (*part, error) { return s.addAs(desc, false) }

// addAs makes desc a part, unless it is one. One digest has one size, and is a
// document, of which all that it names is a part too, or something else.
func (s *session) addAs(desc ocispec.Descriptor, isDocument bool) (*part, error) {
	if p := s.parts[desc.Digest]; p != nil {
		if p.desc.Size != desc.Size {
			return nil, broken("%s is said to have %d bytes, and %d", desc.Digest, p.desc.Size, desc.Size)
		}
		if p.isDocument != isDocument {
			return nil, broken("%s is named both as a manifest and as something else", desc.Digest)
		}
		return p, nil
	}
	switch {
	case len(s.parts) == maxParts:
		return nil, broken("the image is of more than %d objects", maxParts)
	case desc.Size > math.MaxInt64-s.size:
		return nil, broken("the image has more than 2^63 bytes")
	}
	p := &part{
		ref:        locator.Reference{Locator: s.loc, Digest: desc.Digest}.String(),
		isDocument: isDocument,
		desc:       ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, URLs: desc.URLs},
	}
	s.parts[desc.Digest] = p
	s.size += desc.Size
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append(s.order, p)
	return p, nil
}

// A part is an object of an image.
type part struct {
	ref        string
	desc       ocispec.Descriptor
	isDocument bool // it is read

	opening sync.Mutex
	obj     Object // nil while nobody uses it; guarded by opening
	users   int    // guarded by opening
	unhold  func() // nil before the first use; guarded by opening

	course course
}

// use opens p for one more, who gives it back by done. Those who use it at the
// same time share one Object.
func (s *session) use(ctx context.Context, p *part) (obj Object, done func(), err error) {
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.users == 0 {
		if p.obj, err = s.open(ctx, p); err != nil {
			return nil, nil, err
		}
	}
	p.users++
	return p.obj, p.leave, nil
}

func (p *part) leave() {
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.users--; p.users > 0 {
		return
	}
	p.obj.Close()
	p.obj = nil
	p.course.follow(nil)
}

// open opens p. Whoever uses it has p.opening.
func (s *session) open(ctx context.Context, p *part) (Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.begin(p); err != nil {
		return nil, err
	}
	obj, err := s.src.Open(ctx, s.loc, p.desc)
	if err != nil {
		return nil, err
	}
	if is := obj.Descriptor().Size; is != p.desc.Size {
		obj.Close()
		return nil, broken("%s has %d bytes, and not %d as the manifest says", p.ref, is, p.desc.Size)
	}
	p.course.follow(obj)
	return obj, nil
}

// begin holds p, and looks how much of it is here, once. Whoever begins it has
// p.opening.
func (s *session) begin(p *part) error {
	if p.unhold != nil {
		return nil
	}
	unhold, err := s.src.Hold(p.desc.Digest)
	if err != nil {
		return err
	}
	p.unhold = unhold
	p.course.begin(s.src.Local(s.loc, p.desc.Digest))
	s.tell(p)
	return nil
}

// beginAll begins all parts, so that it can be told how much there is.
func (s *session) beginAll() error {
	for _, p := range s.all() {
		p.opening.Lock()
		err := s.begin(p)
		p.opening.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// largestFirst is all parts in the order that is done soonest: no large one is
// left at the end with few connections to itself.
func (s *session) largestFirst() []*part {
	parts := slices.Clone(s.all())
	slices.SortStableFunc(parts, func(a, b *part) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	return parts
}

// fetchAll has parts come into the store, in their order, as work of group.
func (s *session) fetchAll(ctx context.Context, group *errgroup.Group, parts []*part) {
	group.Go(func() error {
		if err := s.beginAll(); err != nil {
			return err
		}
		workers, ctx := errgroup.WithContext(ctx)
		workers.SetLimit(maxOpen)
		for _, p := range parts {
			workers.Go(func() error { return s.fetch(ctx, p) })
		}
		return workers.Wait()
	})
}

func (s *session) fetch(ctx context.Context, p *part) error {
	obj, done, err := s.use(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	if err := obj.Commit(ctx); err != nil {
		return err
	}
	if err := s.src.Answered(ctx, s.loc, p.desc); err != nil {
		return err
	}
	p.course.arrive()
	s.tell(p)
	return nil
}

// readAll reads all of p once its digest matched. It is small.
func (s *session) readAll(ctx context.Context, p *part) ([]byte, error) {
	obj, done, err := s.use(ctx, p)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := obj.Verify(ctx); err != nil {
		return nil, err
	}
	b := make([]byte, p.desc.Size)
	if _, err := obj.ReadAt(ctx, b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// tellEvery is how often is told what changed.
const tellEvery = 100 * time.Millisecond

// watch has what happens to parts told, until stop has returned.
func (s *session) watch() (stop func()) {
	if s.report == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			for _, p := range s.all() {
				s.tell(p)
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

// tell reports what changed about p.
func (s *session) tell(p *part) {
	if s.report != nil {
		p.course.tell(Event{Ref: p.ref, Desc: p.desc}, s.report)
	}
}

func (s *session) said(e Event) {
	if s.report != nil {
		s.report(e)
	}
}

// named is err of ref.
func named(ref fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", ref, err)
}
