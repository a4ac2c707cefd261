package main

import (
	"fmt"
	"sync"
	"time"

	"distfs/transfer"

	"github.com/spf13/cobra"
)

// A progressMode is the flag --progress of the commands that move images.
type progressMode struct{ choice choice }

func (m *progressMode) flag(cmd *cobra.Command) {
	m.choice = choice{"auto", []string{"auto", "bars", "plain", "json", "none"}}
	cmd.Flags().Var(&m.choice, "progress", "show on standard error how far it is; auto is bars on a terminal and plain lines elsewhere")
}

// progress returns who is to hear what happens to the objects of name, and
// finish, which is called when nothing more happens: it says what was moved if
// err is nil. In between what p says, and its log, stands above the bars.
func (p *program) progress(m *progressMode, name string) (report transfer.Report, finish func(err error)) {
	mode := m.choice.value
	if mode == "auto" {
		if mode = "plain"; isTerminal(p.stderr) {
			mode = "bars"
		}
	}
	t := &tracker{name: name, began: time.Now(), lines: make(map[string]*line)}
	switch mode {
	case "bars":
		t.display = p.bars()
	case "plain":
		t.display = &plainLines{say: p.say}
	case "json":
		t.display = &jsonLines{to: p.stderr}
	default:
		return nil, func(error) {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { t.tick(quit) })
	return t.report, func(err error) {
		close(quit)
		wg.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended = true
		t.display.end(t.sum(time.Now()), err)
	}
}

// A display shows what a tracker was told. It is called by one at a time.
type display interface {
	show(l *line)             // l is new or has changed
	tick(s summary)           // time has passed
	end(s summary, err error) // nothing follows
}

// A tracker knows how far each object is.
type tracker struct {
	name  string
	began time.Time

	mu      sync.Mutex
	display display
	lines   map[string]*line // by ref
	whole   *line            // what was asked for, of which the others are parts; nil if it was not resolved
	news    bool             // of parts, since the whole was shown
	ended   bool
}

// A line is one object's.
type line struct {
	transfer.Event
	question       bool // it was resolved first: it is all others together
	began, updated time.Time
	arrived        int64 // bytes that were moved
	pace           pace
	together       int64 // of a question, bytes a second
	shown          any   // the display's own
}

// rate is bytes a second, of late.
func (l *line) rate() int64 {
	if l.question {
		return l.together
	}
	return l.pace.rate(l.updated)
}

func (t *tracker) report(e transfer.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	now := time.Now()
	l := t.lines[e.Ref]
	if l == nil {
		l = &line{began: now, question: e.State == transfer.Resolving}
		t.lines[e.Ref] = l
	}
	if l.question {
		t.whole = l
		t.showWhole(e, now)
		return
	}
	l.Event, l.updated = e, now
	if e.State != transfer.Unpacking && e.Offset-e.Had > l.arrived {
		l.pace.add(now, e.Offset-e.Had-l.arrived)
		l.arrived = e.Offset - e.Had
	}
	t.display.show(l)
	t.news = true
}

// wholeEvery is how often is shown how far all objects together are.
const wholeEvery = 100 * time.Millisecond

// showWhole shows what was asked for, of which e tells: while it is resolved and
// when it is done as that says, and in between as its parts are.
func (t *tracker) showWhole(e transfer.Event, now time.Time) {
	s := t.sum(now)
	if e.State != transfer.Resolving && e.State != transfer.Done {
		e.State = s.state()
	}
	if e.Desc.Digest != "" {
		e.Desc.Size, e.Offset = s.total, s.offset
	}
	t.news = false
	t.whole.Event, t.whole.updated, t.whole.together = e, now, s.rate
	t.display.show(t.whole)
}

func (t *tracker) tick(quit <-chan struct{}) {
	ticker, whole := time.NewTicker(plainEvery), time.NewTicker(wholeEvery)
	defer ticker.Stop()
	defer whole.Stop()
	for {
		select {
		case <-ticker.C:
			t.mu.Lock()
			t.display.tick(t.sum(time.Now()))
			t.mu.Unlock()
		case now := <-whole.C:
			t.mu.Lock()
			if w := t.whole; w != nil && t.news && w.State != transfer.Resolving && w.State != transfer.Done {
				t.showWhole(w.Event, now)
			}
			t.mu.Unlock()
		case <-quit:
			return
		}
	}
}

// A summary is all objects together.
type summary struct {
	name           string
	objects, ready int
	offset, total  int64 // bytes that are here, of those that are known of
	had, arrived   int64 // of these, before the command began, and by it
	downloading    int
	verifying      int
	unpacking      int
	mounted        int   // objects that were taken over from another repository
	rate           int64 // bytes a second, lately
	began, now     time.Time
}

func (t *tracker) sum(now time.Time) summary {
	s := summary{name: t.name, began: t.began, now: now}
	for _, l := range t.lines {
		if l.question {
			continue
		}
		s.objects++
		switch l.State {
		case transfer.Done, transfer.Exists:
			s.ready++
		case transfer.Mounted:
			s.ready++
			s.mounted++
		case transfer.Downloading:
			s.downloading++
		case transfer.Verifying:
			s.verifying++
		case transfer.Unpacking:
			s.unpacking++
		}
		s.total += l.Desc.Size
		s.had += l.Had
		s.offset += l.Had + l.arrived
		s.arrived += l.arrived
		s.rate += l.pace.rate(now)
	}
	return s
}

// state is that of all objects together, as long as they are not done.
func (s *summary) state() transfer.State {
	switch {
	case s.downloading > 0:
		return transfer.Downloading
	case s.unpacking > 0:
		return transfer.Unpacking
	case s.verifying > 0:
		return transfer.Verifying
	}
	return transfer.Waiting
}

// moved says what was moved, how fast, and what did not have to be.
func (s *summary) moved() string {
	elapsed := s.now.Sub(s.began)
	text := fmt.Sprintf("%s: %s in %s", s.name, humanSize(s.arrived), elapsed.Round(10*time.Millisecond))
	if s.arrived > 0 {
		text += fmt.Sprintf(", %s/s", humanSize(int64(float64(s.arrived)/max(elapsed, time.Millisecond).Seconds())))
	}
	if s.had > 0 {
		text += fmt.Sprintf("; %s were there before", humanSize(s.had))
	}
	if s.mounted > 0 {
		text += fmt.Sprintf(" (objects in another repository: %d)", s.mounted)
	}
	return text
}

// A pace is bytes a second, of late.
type pace struct {
	perSecond float64
	last      time.Time // when it was reckoned
	since     int64     // bytes that came then
}

const (
	paceStep = 250 * time.Millisecond
	paceHalf = 2 * time.Second // after which what was counts half
)

func (p *pace) add(now time.Time, n int64) {
	if p.last.IsZero() {
		p.last = now
	}
	p.since += n
	p.reckon(now)
}

func (p *pace) reckon(now time.Time) {
	d := now.Sub(p.last)
	if d < paceStep {
		return
	}
	lately := float64(p.since) / d.Seconds()
	keep := float64(paceHalf) / float64(paceHalf+d)
	if p.perSecond == 0 {
		keep = 0
	}
	p.perSecond = keep*p.perSecond + (1-keep)*lately
	p.last, p.since = now, 0
}

func (p *pace) rate(now time.Time) int64 {
	if !p.last.IsZero() {
		p.reckon(now)
	}
	return int64(p.perSecond)
}
