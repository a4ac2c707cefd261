package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"distfs/fetch"
	"distfs/transfer"
)

// plainEvery is how often plain lines come.
const plainEvery = 3 * time.Second

// plainLines are for logs: one line now and then for all objects.
type plainLines struct{ say func(string) }

func (*plainLines) show(*line) {}

func (d *plainLines) tick(s summary) { d.say(s.line()) }

// line says how far all objects are.
func (s *summary) line() string {
	if s.objects == 0 {
		return s.name + ": resolving" // nothing is known of it
	}
	text := fmt.Sprintf("%s: %d of %d objects, %s/%s, %s/s", s.name, s.ready, s.objects, humanSize(s.offset), humanSize(s.total), humanSize(s.rate))
	if s.unpacking > 0 {
		text += ", unpacking"
	}
	return text
}

func (d *plainLines) end(s summary, err error) {
	if err == nil {
		d.say(s.moved())
	}
}

// jsonLines are for programs: an object a line, at each change of a state, and
// now and then while bytes are moved.
type jsonLines struct{ to io.Writer }

const jsonEvery = 200 * time.Millisecond

// jsonShown is what was shown last of an object.
type jsonShown struct {
	state transfer.State
	at    time.Time
}

func (d *jsonLines) show(l *line) {
	last, _ := l.shown.(jsonShown)
	if l.State == last.state && l.updated.Sub(last.at) < jsonEvery || l.question && l.State == transfer.Done { // which end says
		return
	}
	l.shown = jsonShown{l.State, l.updated}
	o := progress{
		Ref: l.Ref, MediaType: l.Desc.MediaType, Digest: l.Desc.Digest, State: fetch.State(l.State), Size: l.Offset, Offset: l.Offset,
		Rate: l.rate(), Started: stamp(l.began), Updated: stamp(l.updated),
	}
	if l.Desc.Digest != "" {
		o.Total = &l.Desc.Size
	}
	d.write(o)
}

func (*jsonLines) tick(summary) {}

func (d *jsonLines) end(s summary, err error) {
	o := progress{Ref: s.name, State: "done", Size: s.offset, Offset: s.offset, Total: &s.total, Started: stamp(s.began), Updated: stamp(s.now)}
	o.Rate = int64(float64(s.arrived) / max(s.now.Sub(s.began), time.Millisecond).Seconds())
	switch {
	case errors.Is(err, context.Canceled): // by a signal
		o.State = "interrupted"
	case err != nil:
		o.State = "failed"
	}
	d.write(o)
}

func (d *jsonLines) write(o progress) {
	if b, err := json.Marshal(o); err == nil {
		_, _ = d.to.Write(append(plainJSON(b), '\n'))
	}
}
