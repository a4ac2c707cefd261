package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"distfs/fetch"
	"distfs/transfer"
)

// A seen is what others see of objects that no fetcher moves: those of an export,
// and of a push into a layout. The zero value is ready.
type seen struct {
	mu  sync.Mutex
	now map[string]*seenObject // by ref, those under way; guarded by mu
}

type seenObject struct {
	transfer.Event
	began, updated time.Time
	pace           pace
}

// report returns who hears of objects, and tells next, unless that is nil.
func (s *seen) report(next transfer.Report) transfer.Report {
	return func(e transfer.Event) {
		s.hear(e, time.Now())
		if next != nil {
			next(e)
		}
	}
}

func (s *seen) hear(e transfer.Event, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.State {
	case transfer.Done, transfer.Exists, transfer.Mounted:
		delete(s.now, e.Ref)
		return
	}
	o := s.now[e.Ref]
	if o == nil {
		o = &seenObject{began: now}
		if s.now == nil {
			s.now = make(map[string]*seenObject)
		}
		s.now[e.Ref] = o
	}
	o.pace.add(now, max(e.Offset-o.Offset, 0))
	o.Event, o.updated = e, now
}

// active is what a control tells of.
func (s *seen) active() []fetch.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []fetch.Progress
	for _, o := range s.now {
		all = append(all, fetch.Progress{
			Ref: o.Ref, MediaType: o.Desc.MediaType, Digest: o.Desc.Digest, State: fetch.State(o.State),
			Here: o.Offset, Offset: o.Offset, Total: o.Desc.Size, Rate: o.pace.rate(time.Now()), Started: o.began, Updated: o.updated,
		})
	}
	slices.SortFunc(all, func(a, b fetch.Progress) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Ref, b.Ref)) })
	return all
}
