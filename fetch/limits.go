package fetch

import (
	"context"
	"sync"
	"time"
)

const (
	maxPerHost = 8         // connections that make progress, one of them for reads that wait
	maxOpen    = 64        // connections in all
	slowRate   = 128 << 20 // bytes a second of a connection that has the line to itself
	measureFor = 200 * time.Millisecond
	farAway    = 10 * time.Millisecond // an answer that takes longer comes over a long line
)

// limits keep the connections to each host few.
type limits struct {
	most int // connections for what nobody waits for

	mu    sync.Mutex
	hosts map[string]*hostLimit
}

type hostLimit struct {
	active  int                    // connections that make progress
	stalled int                    // and those that do not
	rate    float64                // bytes a second of a connection, lately; 0 where it is not known
	answer  time.Duration          // the quickest answer yet; 0 where there was none
	moved   time.Time              // when bytes were last seen to have come
	late    bool                   // one took long when there had been none yet
	waiting map[chan struct{}]bool // the drivers that were refused
}

func newLimits(bulk bool) *limits {
	l := &limits{most: maxPerHost - 1, hosts: make(map[string]*hostLimit)}
	if bulk {
		l.most = maxPerHost
	}
	return l
}

// host returns the limit of a host. The lock is held.
func (l *limits) host(name string) *hostLimit {
	h := l.hosts[name]
	if h == nil {
		h = &hostLimit{waiting: make(map[chan struct{}]bool)}
		l.hosts[name] = h
	}
	return h
}

// acquire takes a connection. Who is refused is woken when one is free.
func (l *limits) acquire(host string, urgent bool, wake chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(host)
	most := l.most
	if urgent {
		most = maxPerHost
	}
	if h.active >= most || h.active+h.stalled >= maxOpen {
		h.waiting[wake] = true
		return false
	}
	h.active++
	return true
}

// release gives a connection back.
func (l *limits) release(host string, stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(host)
	if stalled {
		h.stalled--
	} else {
		h.active--
	}
	h.wakeAll()
}

// patience is how long a connection without progress counts: not for long where
// so many of the host have none that others would wait for one wave of them after
// the other.
func (l *limits) patience(host string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.host(host).stalled >= maxPerHost {
		return stallSoon
	}
	return stallAfter
}

// stall says that a connection stopped making progress: it makes room.
func (l *limits) stall(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(host)
	h.active--
	h.stalled++
	h.wakeAll()
}

// resume says that it makes progress again: it counts, whatever the limit.
func (l *limits) resume(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(host)
	h.active++
	h.stalled--
}

// regain takes a connection again that was released for a pause, as soon as one is free; when ctx
// ends, one that is to be released at once.
func (l *limits) regain(ctx context.Context, host string) {
	wake := make(chan struct{}, 1)
	for {
		l.mu.Lock()
		h := l.host(host)
		if h.active < maxPerHost && h.active+h.stalled < maxOpen || ctx.Err() != nil {
			delete(h.waiting, wake)
			h.active++
			l.mu.Unlock()
			return
		}
		h.waiting[wake] = true
		l.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// wakeAll has those look again who were refused. The lock is held.
func (h *hostLimit) wakeAll() {
	for wake := range h.waiting {
		select {
		case wake <- struct{}{}:
		default:
		}
		delete(h.waiting, wake)
	}
}

// measure takes note of a worker's pace, once it has read an answer for a while.
// The wait for the answer is none of the pace: else short ranges of a host that is
// far would look slow, and the next be short for that.
func (l *limits) measure(host string, w *worker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, got := l.host(host), w.bytes.Load()
	if got > w.seen {
		w.seen, h.moved = got, time.Now()
	}
	if w.stalled || w.paused {
		return
	}
	if w.began.IsZero() {
		h.late = h.late || time.Since(w.last()) > measureFor
		return
	}
	if elapsed := time.Since(w.began); elapsed >= measureFor {
		h.rate = float64(got-w.before)/elapsed.Seconds() + 1
	}
}

// answered takes note of how long the host took to answer a request.
func (l *limits) answered(host string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.host(host); h.answer == 0 || d < h.answer {
		h.answer = d
	}
}

// moved is when bytes of the host last came, for whomever.
func (l *limits) moved(host string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.host(host).moved
}

func (l *limits) rate(host string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.host(host).rate
}

// divides says whether several connections to the host get more than one does:
// where one is slow, or, as long as that is not known, where the line is long.
func (l *limits) divides(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(host)
	if h.rate == 0 {
		return h.answer > farAway || h.answer == 0 && h.late
	}
	return h.rate < slowRate
}
