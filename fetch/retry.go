package fetch

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	maxAttempts = 4                      // without progress to speak of
	backoff     = 100 * time.Millisecond // after the first, and then doubled
	maxBackoff  = 5 * time.Second
)

// patience is how long, and how often, one goes on asking without progress. What
// is asked again changes nothing, or to do it twice is to do it once; an upload
// session says itself where it is.
type patience struct {
	timeout  time.Duration
	until    time.Time // when who waits for the answer gives up
	attempts int       // that failed since the last progress
	bulk     bool      // nobody reads: who told of the object has all of the timeout to come back
	moved    bool      // there was progress: who cannot be reached any more has it too
}

func newPatience(timeout time.Duration) *patience {
	return &patience{timeout: timeout, until: time.Now().Add(timeout)}
}

// renew begins anew, after progress. What ended then is not held against the
// server: there is no pause.
func (p *patience) renew() { p.until, p.attempts, p.moved = time.Now().Add(p.timeout), -1, true }

// pause says how long to wait before asking again what ended with err, and
// whether to ask again: not what another try would not mend, not too often, and
// not where the host asked for a longer pause than who waits for the answer
// would take. A request that was not sent, because of an earlier answer, is no
// attempt.
func (p *patience) pause(ctx context.Context, err error) (time.Duration, bool) {
	if _, unsent := errors.AsType[*gateError](err); !unsent {
		p.attempts++
	}
	mends := temporary(err) || p.persists() && dialedInVain(err)
	if !mends || p.attempts >= p.most(err) {
		return 0, false
	}
	d := time.Duration(0)
	if p.attempts > 0 {
		d = jitter(min(backoff<<min(p.attempts-1, 10), maxBackoff))
	}
	if status, ok := errors.AsType[*StatusError](err); ok && status.RetryAfter > 0 {
		d = status.RetryAfter + jitter(backoff) // not all at the same moment
	}
	until := p.until
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	return d, time.Now().Add(d).Before(until)
}

// persist calls try until it succeeds, or another call would not mend what it
// ended with. Each has the timeout.
func (f *Fetcher) persist(ctx context.Context, try func(context.Context) error) error {
	timeout := f.opts.Timeout
	for patience := newPatience(timeout); ; {
		tctx, cancel := context.WithTimeoutCause(ctx, timeout, errStalled(timeout))
		err := kind(tctx, try(tctx))
		cancel()
		if err == nil {
			return nil
		}
		if d, ok := patience.pause(ctx, err); !ok || !sleep(ctx, d) {
			return err
		}
	}
}

// sleep waits for d, or until ctx ends, which is false.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// persists says whether to come back to who cannot be reached.
func (p *patience) persists() bool { return p.bulk || p.moved }

// dialedInVain says whether err is that a connection was not made in its time,
// which is shorter than that of who waits for an answer.
func dialedInVain(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" && op.Timeout()
}

// most is how often to ask what ends with err, in all: a server that fails for a
// reason of its own fails the second time too.
func (p *patience) most(err error) int {
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusInternalServerError {
		return 2
	}
	if p.bulk || p.moved && (errors.Is(err, syscall.EHOSTUNREACH) || dialedInVain(err)) {
		return math.MaxInt // the time is what ends it
	}
	return maxAttempts
}

// jitter returns between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
