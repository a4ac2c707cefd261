package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// maxRedirects bounds the hops from a registry to the bytes.
const maxRedirects = 5

// maxTargets bounds how many redirects are remembered, maxTarget the length of
// each.
const (
	maxTargets = 1024
	maxTarget  = 8 << 10
)

// A stranger is a client for those whom others name, and not the user: they get
// no credentials, no cookies and nothing of a request but its Range and Accept.
type stranger struct {
	client *http.Client
	agent  string
}

// follow goes where a registry sends req.
func (s *stranger) follow(req *http.Request, resp *http.Response) (*http.Response, error) {
	for hops := 0; isRedirect(resp.StatusCode); hops++ {
		resp.Body.Close()
		to, err := resp.Location()
		if err != nil {
			return nil, broken("%s: redirect without a target", resp.Request.URL.Host)
		}
		if hops == maxRedirects {
			return nil, broken("%s: more than %d redirects", req.URL.Host, maxRedirects)
		}
		if err := checkHop(resp.Request.URL, to); err != nil {
			return nil, err
		}
		if resp, err = s.hop(req, to); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func isRedirect(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// checkHop refuses a way that leads out of HTTPS or to no web server.
func checkHop(from, to *url.URL) error {
	switch {
	case to.Scheme != "https" && to.Scheme != "http":
		return broken("%s: leads to a %q URL", from.Host, oneLine(to.Scheme))
	case from.Scheme == "https" && to.Scheme == "http":
		return broken("%s: leads from HTTPS to HTTP at %s", from.Host, oneLine(to.Host))
	case localName(to.Host) && !localName(from.Host): // a proxy would go there for us
		return fmt.Errorf("%w: %s", errRefusedAddr, oneLine(to.Host))
	}
	return nil
}

// hop sends req to another URL, bare.
func (s *stranger) hop(req *http.Request, to *url.URL) (*http.Response, error) {
	next, err := http.NewRequestWithContext(req.Context(), req.Method, to.String(), nil)
	if err != nil {
		return nil, broken("%s: leads to %q", req.URL.Host, oneLine(to.Host))
	}
	next.URL.User = nil
	for _, name := range []string{"Range", "Accept", "Accept-Encoding"} {
		if v := req.Header.Get(name); v != "" {
			next.Header.Set(name, v)
		}
	}
	next.Header.Set("User-Agent", s.agent)
	resp, err := s.client.Do(next)
	if err != nil {
		return nil, kind(req.Context(), trimURL(err))
	}
	return resp, nil
}

// trimURL is err without the query of the URL that net/http puts in its errors:
// it may be signed. err may be others' too, and is left as it is.
func trimURL(err error) error {
	u, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	p, perr := url.Parse(u.URL)
	if perr != nil || p.RawQuery == "" && p.User == nil {
		return err
	}
	p.RawQuery, p.User = "", nil
	return &trimmedError{err, strings.ReplaceAll(err.Error(), u.URL, p.String())}
}

// A trimmedError is err in other words.
type trimmedError struct {
	err   error
	words string
}

func (e *trimmedError) Error() string { return e.words }
func (e *trimmedError) Unwrap() error { return e.err }

// targets remembers where a registry sent the readers of an object, so that
// the next range costs one request and not two.
type targets struct {
	mu sync.Mutex
	m  map[string]*url.URL
}

func (t *targets) get(object string) *url.URL {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[object]
}

func (t *targets) put(object string, to *url.URL) {
	if len(to.RawQuery)+len(to.Path) > maxTarget {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil || len(t.m) >= maxTargets {
		t.m = make(map[string]*url.URL)
	}
	t.m[object] = to
}

func (t *targets) drop(object string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, object)
}
