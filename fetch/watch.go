package fetch

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A watch counts what is sent and received, and tells each request to who
// wants the whole story. URLs are told without their query and user, for these
// may be credentials; headers are not told, but for Range.
type watch struct {
	log    *slog.Logger
	origin atomic.Int64 // bytes of objects that remotes sent

	mu       sync.Mutex
	hosts    map[string]bool   // that have a name of their own in requests; guarded by mu
	requests map[Request]int64 // guarded by mu
}

// A Request is a kind of requests: whom they went to, and what came of them.
type Request struct {
	Host string // "other" for all beyond the first MaxHosts
	Code string // the status, "other" for one that HTTP does not know, "error" where no answer came
}

// MaxHosts is how many hosts are told apart: a registry may redirect to as many
// as it likes.
const MaxHosts = 64

func newWatch(log *slog.Logger) *watch {
	return &watch{log: log, hosts: make(map[string]bool), requests: make(map[Request]int64)}
}

// count counts a request. Hosts that the user did not name, whom a registry
// redirects to or has tokens from, leave half of the names to those that he did.
func (w *watch) count(host string, named bool, resp *http.Response) {
	code := "error"
	if resp != nil {
		if code = "other"; http.StatusText(resp.StatusCode) != "" {
			code = strconv.Itoa(resp.StatusCode)
		}
	}
	host = strings.ToValidUTF8(host, "?") // a redirect may name anything
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.hosts[host] {
		if named && len(w.hosts) < MaxHosts || len(w.hosts) < MaxHosts/2 {
			w.hosts[host] = true
		} else {
			host = "other"
		}
	}
	w.requests[Request{host, code}]++
}

func (w *watch) counted() map[Request]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.requests)
}

// over returns next, watched. named is the host that the user named.
func (w *watch) over(next http.RoundTripper, named string) http.RoundTripper {
	return &watched{next, named, w}
}

type watched struct {
	next  http.RoundTripper
	named string
	w     *watch
}

func (t *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.w.log.Enabled(req.Context(), slog.LevelDebug) {
		resp, err := t.next.RoundTrip(req)
		t.w.count(req.URL.Host, req.URL.Host == t.named, resp)
		return resp, err
	}
	began := time.Now()
	resp, err := t.next.RoundTrip(t.w.traced(req))
	t.w.count(req.URL.Host, req.URL.Host == t.named, resp)
	t.w.tell(req, resp, err, began)
	return resp, err
}

// traced is req, which tells of itself when it has a connection.
func (w *watch) traced(req *http.Request) *http.Request {
	ctx := req.Context()
	return req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			w.log.LogAttrs(ctx, slog.LevelDebug, "request", slog.String("method", req.Method), slog.String("url", plainURL(req.URL)),
				slog.String("range", req.Header.Get("Range")), slog.Bool("reused", c.Reused))
		},
	}))
}

// tell tells what became of req; of its body, when that is closed.
func (w *watch) tell(req *http.Request, resp *http.Response, err error, began time.Time) {
	ctx, to := req.Context(), slog.String("url", plainURL(req.URL))
	if err != nil {
		w.log.LogAttrs(ctx, slog.LevelDebug, "no answer", to, slog.Duration("time", time.Since(began)), slog.String("err", oneLine(err.Error())))
		return
	}
	w.log.LogAttrs(ctx, slog.LevelDebug, "answer", to, slog.Int("status", resp.StatusCode),
		slog.Int64("length", resp.ContentLength), slog.Duration("time", time.Since(began)))
	body := &countedBody{ReadCloser: resp.Body}
	body.closed = func() {
		w.log.LogAttrs(ctx, slog.LevelDebug, "received", to, slog.Int64("bytes", body.n.Load()), slog.Duration("time", time.Since(began)))
	}
	resp.Body = body
}

func plainURL(u *url.URL) string {
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return oneLine(plain.String())
}

// A countedBody counts what is read of it.
type countedBody struct {
	io.ReadCloser
	n      atomic.Int64
	total  *atomic.Int64 // counted there too; nil is nowhere
	once   sync.Once
	closed func() // nil is nothing
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	if b.total != nil {
		b.total.Add(int64(n))
	}
	return n, err
}

func (b *countedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.closed != nil {
		b.once.Do(b.closed)
	}
	return err
}
