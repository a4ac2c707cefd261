package fetch

import (
	"maps"
	"net/http"
	"net/url"
	"time"

	"distfs/locator"
)

// An endpoint is where the content of a host is asked for, and how: a
// registry's API at one address, or a directory of layouts.
type endpoint struct {
	locator.Remote
	ns         string        // the host that it stands in for; "" where it is that host itself
	can        capability    // what it is trusted with
	skipVerify bool          // over TLS, whoever answers is believed
	header     http.Header   // sent to it and to nobody else
	dial       time.Duration // bounds the making of a connection; 0 as for all
}

// A capability is what a source is trusted with (containerd's docs/hosts.md).
type capability uint8

const (
	canPull    capability = 1 << iota // bytes, which their digest proves
	canResolve                        // which digest a tag means, which nothing proves
	canAll     = canPull | canResolve
)

// standsIn sets whose content e is asked for. docker.io's registry is the host
// itself, whatever its name.
func (e *endpoint) standsIn(host string) {
	if e.Kind == locator.Registry && locator.CanonicalHost(e.Addr) != host {
		e.ns = host
	}
}

// root is the path below which the API begins.
func (e *endpoint) root() string {
	switch e.Root {
	case "":
		return "/v2"
	case "/":
		return ""
	}
	return e.Root
}

// ownTLS says that e is not reached as others are.
func (e *endpoint) ownTLS() bool {
	return len(e.CA) > 0 || len(e.Client) > 0 || e.skipVerify || e.dial > 0
}

// address adds to a request what e wants to have in it.
func (e *endpoint) address(req *http.Request) {
	maps.Copy(req.Header, e.header)
	if e.ns != "" {
		req.URL.RawQuery = url.Values{"ns": {e.ns}}.Encode()
	}
}
