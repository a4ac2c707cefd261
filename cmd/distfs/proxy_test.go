package main_test

import (
	"encoding/base64"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

type proxyKey struct{}

// A proxy is an HTTP proxy on loopback that wants a password. The hosts that
// are led elsewhere it alone knows how to find.
type proxy struct {
	led map[string]string

	mu   sync.Mutex
	seen []string // METHOD HOST, guarded by mu
}

// startProxy starts the script's proxy, $PROXY, which leads hosts as $TEST_DIAL
// does.
func startProxy(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	p, _ := ts.Value(proxyKey{}).(*proxy)
	p.led = make(map[string]string)
	for l := range strings.FieldsSeq(ts.Getenv("TEST_DIAL")) {
		from, to, _ := strings.Cut(l, "=")
		p.led[from] = to
	}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	ts.Setenv("PROXY", strings.Replace(srv.URL, "://", "://u:p@", 1))
}

// proxied METHOD,... HOST...: since it was last asked, the proxy saw these
// methods for each of these hosts, and nothing else.
func cmdProxied(ts *testscript.TestScript, _ bool, args []string) {
	p, _ := ts.Value(proxyKey{}).(*proxy)
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.seen)
	var want []string
	for method := range strings.SplitSeq(args[0], ",") {
		for _, host := range args[1:] {
			want = append(want, method+" "+host)
		}
	}
	slices.Sort(want)
	if got := slices.Compact(p.seen); !slices.Equal(got, want) {
		ts.Fatalf("the proxy saw %q, want %q", got, want)
	}
	p.seen = nil
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("u:p")) {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, req.Method+" "+req.Host)
	p.mu.Unlock()
	host, _, err := net.SplitHostPort(req.Host)
	if err != nil {
		host = req.Host
	}
	to, ok := p.led[host]
	if !ok {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if req.Method == http.MethodConnect {
		tunnel(w, to)
		return
	}
	req.URL.Host = to
	req.Header.Del("Proxy-Authorization")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// tunnel joins the client's connection to one to addr.
func tunnel(w http.ResponseWriter, addr string) {
	out, err := net.Dial("tcp", addr)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	w.WriteHeader(http.StatusOK)
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	go func() {
		defer out.Close()
		io.Copy(out, buffered)
	}()
	io.Copy(in, out)
}
