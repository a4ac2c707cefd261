package main

import (
	"io"
	"strings"
	"sync/atomic"
	"time"

	"distfs/image"
	"distfs/transfer"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// maxBars is for how many objects there are bars: an index may name thousands.
const maxBars = 500

// barsDisplay is a bar for each object, on a terminal.
type barsDisplay struct {
	p         *program
	container *mpb.Progress
	bars      []*bar
	over      io.Writer // the terminal
}

// bars shows bars until its end. What p says meanwhile stands above them.
func (p *program) bars() *barsDisplay {
	d := &barsDisplay{p: p, over: p.stderr}
	d.container = mpb.New(mpb.WithOutput(p.stderr), mpb.WithRefreshRate(100*time.Millisecond), mpb.PopCompletedMode())
	p.speakTo(d.container)
	return d
}

// speakTo has all that p says, and its log, go to w.
func (p *program) speakTo(w io.Writer) {
	p.stderr = w
	p.log = newLog(w, p.flags.logLevel.value, p.flags.logFormat.value)
}

// A bar is one object's. What is written beside it is asked for by mpb, from
// goroutines of its own.
type bar struct {
	*mpb.Bar
	text atomic.Pointer[barText]
}

type barText struct{ state, amount, rate string }

func (d *barsDisplay) show(l *line) {
	b, ok := l.shown.(*bar)
	if !ok {
		if len(d.bars) == maxBars {
			return
		}
		if b = d.add(l); b == nil {
			return
		}
		l.shown = b
		d.bars = append(d.bars, b)
	}
	text := &barText{state: string(l.State)}
	if l.Desc.Size > 0 {
		text.amount = humanSize(l.Offset) + "/" + humanSize(l.Desc.Size)
	}
	if rate := l.rate(); rate > 0 && (l.State == transfer.Downloading || l.State == transfer.Uploading) {
		text.rate = humanSize(rate) + "/s"
	}
	b.text.Store(text)
	b.SetTotal(l.Desc.Size, false)
	b.SetCurrent(l.Offset)
	switch l.State {
	case transfer.Done, transfer.Exists, transfer.Mounted:
		b.SetTotal(l.Desc.Size, true)
	}
}

// add makes the bar of an object, nil where none can be shown.
func (d *barsDisplay) add(l *line) *bar {
	b := new(bar)
	b.text.Store(&barText{})
	say := func(what func(*barText) string, width int) decor.Decorator {
		return decor.Any(func(decor.Statistics) string { return what(b.text.Load()) }, decor.WC{W: width, C: decor.DindentRight})
	}
	var err error
	// Without a total here it is not complete before it is said to be.
	b.Bar, err = d.container.Add(0, mpb.BarStyle().Build(),
		mpb.PrependDecorators(
			decor.Name(barName(l), decor.WC{W: 22, C: decor.DindentRight}),
			say(func(t *barText) string { return t.state }, 12),
		),
		mpb.AppendDecorators(
			say(func(t *barText) string { return t.amount }, 18),
			say(func(t *barText) string { return t.rate }, 11),
		))
	if err != nil {
		return nil
	}
	return b
}

func (*barsDisplay) tick(summary) {}

func (d *barsDisplay) end(s summary, err error) {
	for _, b := range d.bars {
		b.Abort(false) // those that are not complete stay as they are
	}
	d.container.Wait()
	d.p.speakTo(d.over)
	if err == nil {
		d.p.say(s.moved())
	}
}

// barName is what an object is and the begin of its digest, or what it is asked
// for as.
func barName(l *line) string {
	_, hex, ok := strings.Cut(l.Ref, "@sha256:")
	if !ok || len(hex) < 12 || l.question {
		return cell(l.Ref) + " "
	}
	return barKind(l.Desc.MediaType) + " " + cell(hex[:12]) + " "
}

func barKind(mediaType string) string {
	switch {
	case image.IsIndex(mediaType):
		return "index"
	case image.IsManifest(mediaType):
		return "manifest"
	case image.IsLayer(mediaType):
		return "layer"
	case mediaType == ocispec.MediaTypeImageConfig || strings.HasPrefix(mediaType, "application/vnd.docker.container.image."):
		return "config"
	}
	return "blob"
}
