package fetch

import (
	"sync"
	"time"
)

const (
	maxPerHost = 8         // connections that make progress, one of them for reads that wait
	maxOpen    = 32        // connections in all
	slowRate   = 128 << 20 // bytes a second of a connection that has the line to itself
	measureFor = 200 * time.Millisecond
)

// limits keep the connections to each host few.
type limits struct {
	mu    sync.Mutex
	hosts map[string]*hostLimit
}

type hostLimit struct {
	active  int                    // connections that make progress
	stalled int                    // and those that do not
	rate    float64                // bytes a second of a connection, lately; 0 where it is not known
	waiting map[chan struct{}]bool // the drivers that were refused
}

func newLimits() *limits { return &limits{hosts: make(map[string]*hostLimit)} }

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
	most := maxPerHost
	if !urgent {
		most--
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

// measure takes note of a worker's pace, once it has run for a while.
func (l *limits) measure(host string, w *worker) {
	elapsed := time.Since(w.began)
	if elapsed < measureFor || w.stalled {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.host(host).rate = float64(w.bytes.Load())/elapsed.Seconds() + 1
}

func (l *limits) rate(host string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.host(host).rate
}

func (l *limits) slow(host string) bool {
	r := l.rate(host)
	return r > 0 && r < slowRate
}
