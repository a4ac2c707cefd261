package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxGates bounds the hosts whose wishes are kept.
const maxGates = 1024

// gates keep requests from a host that said when it wants the next one
// (Retry-After with a 429 or 503): none is sent before, whatever it asks for and
// whoever sends it. A registry, a token server and a redirect's target are hosts
// of their own.
//
// A host may ask for as long as it likes, but it is asked again after most: by
// then its trouble may be over.
type gates struct {
	most time.Duration

	mu    sync.Mutex
	hosts map[string]gate // by host and port; guarded by mu
}

type gate struct {
	opens time.Time // when the next request is sent
	asked time.Time // and when the host wants it
	code  int       // its answer's status
}

// note takes down what resp asks for.
func (g *gates) note(resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := time.Now()
	d := retryAfter(resp.Header.Get("Retry-After"), now)
	if d == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hosts == nil || len(g.hosts) >= maxGates {
		g.hosts = make(map[string]gate)
	}
	g.hosts[resp.Request.URL.Host] = gate{opens: now.Add(min(d, g.most)), asked: now.Add(d), code: resp.StatusCode}
}

// closed returns the error of a request that is not to be sent now.
func (g *gates) closed(req *http.Request) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	gate, ok := g.hosts[req.URL.Host]
	if !ok {
		return nil
	}
	if now := time.Now(); now.Before(gate.opens) {
		return &gateError{&StatusError{Method: req.Method, URL: bareURL(req.URL), Code: gate.code, RetryAfter: gate.asked.Sub(now)}}
	}
	delete(g.hosts, req.URL.Host)
	return nil
}

// A gateError is a request that was not sent. It counts as the answer that an
// earlier one got.
type gateError struct{ *StatusError }

func (e *gateError) Error() string {
	return fmt.Sprintf("%s before, and to be asked again in %v", e.answer(), e.RetryAfter.Round(time.Second))
}

func (e *gateError) Unwrap() error { return e.StatusError }

// A gated transport sends what the gates let through.
type gated struct {
	http.RoundTripper
	gates *gates
}

// RoundTrip is http.RoundTripper's. Its error may be a *gateError.
func (t gated) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.gates.closed(req); err != nil {
		return nil, err
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		t.gates.note(resp)
	}
	return resp, err
}

// retryAfter reads a Retry-After: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.Atoi(s); err == nil {
		return max(0, time.Duration(min(n, 1<<20))*time.Second)
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
