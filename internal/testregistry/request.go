package testregistry

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Kind tells requests apart by what they ask for.
type Kind string

// The kinds of requests.
const (
	Ping     Kind = "ping"     // /v2/
	Blob     Kind = "blob"     // /v2/…/blobs/…
	Manifest Kind = "manifest" // /v2/…/manifests/…
	Token    Kind = "token"    // to the token server
	CDN      Kind = "cdn"      // to where redirects lead
	Other    Kind = "other"
)

// A Request is what came in and how it was answered.
type Request struct {
	Kind   Kind
	Method string
	Repo   string      // of blobs, manifests and the CDN
	Ref    string      // the tag or digest, as asked
	Range  string      // the Range header, as asked
	Query  string      // the URL's query, as asked
	Header http.Header // Authorization, Accept, Accept-Encoding and all
	Remote string      // the client's address: one a connection
	Shown  bool        // the client showed a certificate
	Proto  int         // 1, or 2 for HTTP/2
	Body   string      // of a form, as it came
	At     time.Time   // when it came
	Status int         // of the answer; 0 while there is none
	Sent   int64       // bytes of body that were written
	Got    int64       // bytes of the request's body that were taken, of an upload or a manifest
	Done   bool        // the answer has ended, whole or not
}

// flight counts the requests that are being answered, by Ref and "" for all.
type flight struct{ now, peak map[string]int }

func (f *flight) add(ref string, n int) {
	f.now[ref] += n
	f.peak[ref] = max(f.peak[ref], f.now[ref])
}

// begin logs a request that came in.
func (r *Registry) begin(req *http.Request, kind Kind, repo, ref string) *Request {
	q := &Request{
		Kind: kind, Method: req.Method, Repo: repo, Ref: ref, Range: req.Header.Get("Range"),
		Query: req.URL.RawQuery, Header: req.Header.Clone(), Remote: req.RemoteAddr,
		Shown: req.TLS != nil && len(req.TLS.PeerCertificates) > 0,
		Proto: req.ProtoMajor, At: time.Now(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, q)
	r.flight.add("", 1)
	if ref != "" {
		r.flight.add(ref, 1)
	}
	r.wake()
	return q
}

// update changes a logged request.
func (r *Registry) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.wake()
}

// end logs that the answer to q has ended.
func (r *Registry) end(q *Request) {
	r.update(func() {
		q.Done = true
		r.flight.add("", -1)
		if q.Ref != "" {
			r.flight.add(q.Ref, -1)
		}
	})
}

// wake wakes those who wait for the log to change. r.mu is held.
func (r *Registry) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Requests returns the requests so far in the order in which they came, those
// that are being answered too.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests()
}

func (r *Registry) requests() []Request {
	list := make([]Request, len(r.log))
	for i, q := range r.log {
		list[i] = *q
	}
	return list
}

// Wait returns as soon as cond holds for the requests so far. It ends the test when that ends before.
func (r *Registry) Wait(tb testing.TB, cond func([]Request) bool) {
	tb.Helper()
	for {
		r.mu.Lock()
		list, changed := r.requests(), r.changed
		r.mu.Unlock()
		if cond(list) {
			return
		}
		select {
		case <-changed:
		case <-tb.Context().Done():
			tb.Fatalf("testregistry: what was waited for did not come; the requests were %+v", list)
		}
	}
}

// Forget empties the log, and with it all counters but Conns. Requests that are
// being answered are counted in Peak alone.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
	r.flight.peak = maps.Clone(r.flight.now)
}

// Count returns how many requests came of that method and kind; "" is any.
func (r *Registry) Count(method string, kind Kind) int {
	n := 0
	for _, q := range r.Requests() {
		if (method == "" || q.Method == method) && (kind == "" || q.Kind == kind) {
			n++
		}
	}
	return n
}

// Sent returns how many bytes of bodies were written in answer to requests for dgst,
// by the registry and by its CDN.
func (r *Registry) Sent(dgst digest.Digest) int64 {
	var n int64
	for _, q := range r.Requests() {
		if q.Ref == dgst.String() {
			n += q.Sent
		}
	}
	return n
}

// Ranges returns the Range headers of the GETs of dgst, "" where there was none.
// A GET that was redirected counts at the CDN alone.
func (r *Registry) Ranges(dgst digest.Digest) []string {
	var list []string
	for _, q := range r.Requests() {
		if q.Ref == dgst.String() && q.Method == http.MethodGet && q.Status != http.StatusTemporaryRedirect {
			list = append(list, q.Range)
		}
	}
	return slices.Clip(list)
}

// Peak returns the most requests for ref, a tag or digest, that were being answered at once; "" is any.
func (r *Registry) Peak(ref string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flight.peak[ref]
}
