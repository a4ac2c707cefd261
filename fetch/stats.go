package fetch

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Stats is what a Fetcher counted since it was made.
type Stats struct {
	Origin   int64             // bytes of objects that remotes sent
	Requests map[Request]int64 // by HTTP, the questions for tokens included
}

// Stats returns what was counted so far.
func (f *Fetcher) Stats() Stats {
	w := f.remotes.net.watch
	return Stats{Origin: w.origin.Load(), Requests: w.counted()}
}

// A State is what is being done for an object.
type State string

// The states, in their order.
const (
	Resolving   State = "resolving"   // its remote is asked what it is
	Waiting     State = "waiting"     // for the first byte, a connection, or another process that fetches it
	Downloading State = "downloading" // bytes arrive
	Verifying   State = "verifying"   // all are here; they are hashed, or put into the store
	Done        State = "done"        // fetched by this process, in the store, and still open

	Uploading State = "uploading" // it is being pushed
)

// Progress is how far an object is that is under way.
type Progress struct {
	Ref       string // LOCATOR@DIGEST, or LOCATOR:TAG while that is resolved
	MediaType string
	Digest    digest.Digest // "" while it is not known
	State     State
	Here      int64 // bytes of it that are in the store, wherever they lie; of an upload, in the registry
	Offset    int64 // up to where nothing is missing
	Total     int64 // -1 while it is not known
	Received  int64 // bytes that arrived in this process, or that it sent
	Rate      int64 // of these, a second, lately
	Started   time.Time
	Updated   time.Time // when bytes last arrived or were hashed; zero is never
}

// Active returns what is under way, sorted by Ref: what is being resolved, and
// each object of which something is wanted, or which was fetched and is still
// open, and what is being pushed; no file of a layer. It asks nobody.
func (f *Fetcher) Active() []Progress {
	all := append(f.asks.active(), f.uploads.active()...)
	f.mu.Lock()
	pulls := make([]*pull, 0, len(f.pulls))
	for _, p := range f.pulls {
		if !p.derived() { // its layer is what is fetched
			pulls = append(pulls, p)
		}
	}
	f.mu.Unlock()
	for _, p := range pulls {
		if active, ok := p.active(); ok {
			all = append(all, active)
		}
	}
	slices.SortFunc(all, func(a, b Progress) int { return strings.Compare(a.Ref, b.Ref) })
	return all
}

// Progress tells how far the object is. Its State is "" where nothing is under way.
func (o *Object) Progress() Progress {
	a, _ := o.p.active()
	return a
}

// active says how far p is, and false where nothing is under way.
func (p *pull) active() (Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := Progress{
		Ref: p.name(), MediaType: p.desc.MediaType, Digest: p.desc.Digest, State: p.state(),
		Total: p.desc.Size, Started: p.began, Updated: p.progress,
	}
	a.Received, a.Rate = p.meter.read(time.Now())
	switch {
	case p.file != nil:
		a.Here, a.Offset = p.desc.Size, p.desc.Size
	case p.in != nil:
		a.Here, a.Offset = p.amount()
	}
	return a, a.State != ""
}

// state is "" where nothing is under way. The lock is held.
func (p *pull) state() State {
	received, _ := p.meter.read(time.Now())
	switch {
	case p.bad != nil:
		return ""
	case p.file != nil && received > 0:
		return Done
	case p.file != nil:
		return ""
	case p.in != nil && (p.hashing || p.wantsAll()) && p.whole():
		return Verifying
	case len(p.workers) == 0 && len(p.demands) == 0 && !p.wantsAll():
		return ""
	}
	for w := range p.workers {
		if w.bytes.Load() > 0 {
			return Downloading
		}
	}
	return Waiting
}

// amount tells how many bytes the ingest has, and how many without a gap. The
// lock is held.
func (p *pull) amount() (n, front int64) {
	n, front = p.desc.Size, p.desc.Size
	for at := int64(0); at < p.chunks(); {
		first, absent := p.in.Missing(at, p.chunks()-at)
		if absent == 0 {
			break
		}
		front = min(front, p.offset(first))
		n -= p.offset(first+absent) - p.offset(first)
		at = first + absent
	}
	return n, front
}

// Here says whether the n bytes from off on, which lie within the object, can
// be read without waiting.
func (o *Object) Here(off, n int64) bool {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return n <= 0 || o.p.has(chunksOf(off, n))
}

// A meter measures the bytes that arrive. The zero value is ready.
type meter struct {
	mu      sync.Mutex
	total   int64              // guarded by mu
	first   time.Time          // when bytes first arrived; guarded by mu
	last    int64              // the second that was counted last, since the epoch; guarded by mu
	seconds [meterWindow]int64 // of each of the last seconds; guarded by mu
}

// meterWindow is over how many seconds a rate is taken, the present one included.
const meterWindow = 6

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.first.IsZero() {
		m.first = now
	}
	m.turn(now)
	m.total += int64(n)
	m.seconds[m.last%meterWindow] += int64(n)
}

// turn forgets the seconds that are too long ago. The lock is held.
func (m *meter) turn(now time.Time) {
	second := now.Unix()
	for m.last = max(m.last, second-meterWindow); m.last < second; {
		m.last++
		m.seconds[m.last%meterWindow] = 0
	}
}

// read returns all that arrived, and how much of it a second, lately.
func (m *meter) read(now time.Time) (total, rate int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	sum := int64(0)
	for _, n := range m.seconds {
		sum += n
	}
	begin := time.Unix(m.last-meterWindow+1, 0)
	if m.first.After(begin) {
		begin = m.first
	}
	const shortest = 100 * time.Millisecond // less says nothing of a second
	return m.total, int64(float64(sum) / max(now.Sub(begin), shortest).Seconds())
}

// asks are the questions that remotes are being asked. The zero value is ready.
type asks struct {
	mu  sync.Mutex
	now map[*Progress]bool // guarded by mu
}

// begin says that ref is being resolved, until end.
func (a *asks) begin(ref locator.Reference) (end func()) {
	q := &Progress{Ref: ref.String(), Digest: ref.Digest, State: Resolving, Total: -1, Started: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = make(map[*Progress]bool)
	}
	a.now[q] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.now, q)
	}
}

func (a *asks) active() []Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Progress
	for q := range a.now {
		all = append(all, *q)
	}
	return all
}

// A countedRemote counts the bytes of objects that it sends.
type countedRemote struct {
	Remote
	w *watch
}

func (r countedRemote) Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	body, err := r.Remote.Get(ctx, loc, desc, off, n)
	if err != nil {
		return nil, err
	}
	body.ReadCloser = &countedBody{ReadCloser: body.ReadCloser, total: &r.w.origin}
	return body, nil
}

// Distrust is that of a remote that has a choice.
func (r countedRemote) Distrust(loc locator.Locator, dgst digest.Digest, from []string) bool {
	d, ok := r.Remote.(distruster)
	return ok && d.Distrust(loc, dgst, from)
}
