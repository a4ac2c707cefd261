package fetch

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"distfs/locator"
)

// A reply is an answer to a request that changes something.
type reply struct {
	method string
	at     *url.URL // who was asked
	code   int
	header http.Header
	said   []byte // the first bytes of the body
	hint   string // where who asks was refused: see StatusError
}

// maxSaid bounds how much of an answer to a write is read.
const maxSaid = 4 << 10

// write sends a request that changes something. A redirect of it is refused:
// what is meant for the registry goes to nobody else.
func (r *registry) write(req *http.Request, loc locator.Locator) (*reply, error) {
	resp, err := r.exchange(req, loc)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if isRedirect(resp.StatusCode) {
		return nil, broken("%s %s: it redirects what is pushed: nothing is sent elsewhere", req.Method, bareURL(req.URL))
	}
	a := &reply{method: req.Method, at: resp.Request.URL, code: resp.StatusCode, header: resp.Header}
	a.said, _ = io.ReadAll(io.LimitReader(resp.Body, maxSaid)) // that it broke off here is of no consequence
	if refused(resp) {
		a.hint = r.keys.hint(loc)
	}
	return a, nil
}

func (a *reply) ok() bool { return a.code/100 == 2 }

// refusalCode is what the specification has errors named by.
var refusalCode = regexp.MustCompile(`"code"\s*:\s*"([A-Z][A-Z_]{1,40})"`)

// err is a as an error, with the registry's code for it, if it gives one.
func (a *reply) err() error {
	var words []string
	if m := refusalCode.FindSubmatch(a.said); m != nil {
		words = append(words, string(m[1]))
	}
	if a.hint != "" {
		words = append(words, a.hint)
	}
	return &StatusError{
		Method: a.method, URL: bareURL(a.at), Code: a.code, RetryAfter: retryAfter(a.header.Get("Retry-After"), time.Now()),
		Hint: strings.Join(words, "; "),
	}
}

// send sends n bytes of the blob from off on to the session.
func (u *upload) send(ctx context.Context, method string, to *url.URL, off, n int64) (*reply, error) {
	ctx = context.WithValue(ctx, sessionKey{}, to.String())
	req, err := http.NewRequestWithContext(u.p.r.scoped(writing(ctx, ""), u.p.ref.Path), method, to.String(), nil)
	if err != nil {
		return nil, broken("%s: an upload session's Location that is no URL", to.Host)
	}
	maps.Copy(req.Header, u.p.r.to.header)
	req.Header.Set("Accept-Encoding", "identity")
	if n == 0 {
		return u.exchange(ctx, req, nil)
	}
	req.Header.Set("Content-Type", octets)
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+n-1, 10))
	}
	return u.exchange(ctx, req, &sending{src: u.src, off: off, n: n, told: u.told})
}

// exchange sends req with what body has, if it is not nil, and ends it when it
// made no progress for the timeout.
func (u *upload) exchange(ctx context.Context, req *http.Request, body *sending) (*reply, error) {
	timeout := u.p.f.opts.Timeout
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(errStalled(timeout)) })
	defer timer.Stop()
	if body != nil {
		body.moved = func() { timer.Reset(timeout) }
		defer func() { u.spent += body.end() }()
		req.ContentLength = body.n
		req.GetBody = func() (io.ReadCloser, error) { return &part{s: body}, nil }
		req.Body = &part{s: body}
	}
	// The request has values of its context that ctx has not, and ends with ctx.
	a, err := u.p.r.write(req.WithContext(behalfContext{ctx, req.Context()}), u.p.ref.Locator)
	if err == nil {
		return a, nil
	}
	if body != nil {
		if broke := body.broke(); broke != nil {
			return nil, broke
		}
	}
	return nil, kind(ctx, err)
}

// A sending is the bytes of a request, which may be sent more than once.
type sending struct {
	src    io.ReaderAt
	off, n int64
	told   func(int64)
	moved  func()

	mu    sync.Mutex
	ended bool  // the request is over, and nobody hears of it any more
	err   error // of src
	spent int64 // bytes that were read to be sent, each time
}

// A part is a reader of a sending. The transport may read on when the request is
// over: then there is nothing more.
type part struct {
	s  *sending
	at int64
}

// A sourceError is an error in reading what is pushed. No other try mends it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "reading what is pushed: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

var errOver = errors.New("the request is over")

func (p *part) Read(b []byte) (int, error) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return 0, errOver
	case s.err != nil:
		return 0, s.err
	case p.at == s.n:
		return 0, io.EOF
	}
	n, err := s.src.ReadAt(b[:min(int64(len(b)), s.n-p.at)], s.off+p.at)
	p.at += int64(n)
	s.spent += int64(n)
	if n > 0 {
		s.moved()
		s.told(s.off + p.at)
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	s.err = &sourceError{err}
	return 0, s.err
}

func (p *part) Close() error { return nil }

// end ends it, and returns how many bytes were sent.
func (s *sending) end() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.spent
}

func (s *sending) broke() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
