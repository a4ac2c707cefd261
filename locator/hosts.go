package locator

import (
	"maps"
	"slices"
	"strings"
)

// Hosts says which hosts are configured and what serves each. nil is docker's
// grammar alone. It is read only once it is in use.
//
// The keys are hosts as [CanonicalHost] has them. A configured one needs no
// dot and no port: with the key "local", local/app is a repository on it.
type Hosts map[string]Host

// A Host is what is configured for a host. The zero value is a registry of
// that name, over HTTPS.
type Host struct {
	Layouts   string    // a directory of OCI image layouts that serves the host; "" is a registry
	PlainHTTP bool      // the registry speaks HTTP only
	CA        []string  // files of certificates (PEM) that vouch for the registry, beside the system's
	Client    []KeyPair // who asks the registry, over TLS
	Mirrors   []string  // asked before the registry, in order: HOST[:PORT], or a URL of http or https
}

// A KeyPair is the files (PEM) of a certificate and its key. Without Key the
// key is in Cert.
type KeyPair struct{ Cert, Key string }

// Validate says whether every key is a host that can be looked up and each
// value makes sense. The error, an *Error, is that of the first bad key in
// the order of their names.
func (h Hosts) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if f := h.fault(name); f != "" {
			return f.in(name, "configured host")
		}
	}
	return nil
}

func (h Hosts) fault(name string) fault {
	if f := hostFault(name); f != "" {
		return f
	}
	if canonical := CanonicalHost(name); canonical != name {
		return fault("is another spelling of " + canonical + ", write " + canonical)
	}
	switch host := h[name]; {
	case strings.ContainsRune(host.Layouts, 0):
		return fault("layouts " + quote(host.Layouts) + " is no directory's name")
	case host.Layouts != "" && host.PlainHTTP:
		return "has layouts and plain_http, but a directory is not reached over HTTP"
	case host.Layouts != "" && (len(host.CA) > 0 || len(host.Client) > 0):
		return "has layouts and ca or client, but a directory is not reached over TLS"
	case host.Layouts != "" && len(host.Mirrors) > 0:
		return "has layouts and mirrors, but a directory is not mirrored"
	case host.PlainHTTP && (len(host.CA) > 0 || len(host.Client) > 0):
		return "has plain_http and ca or client, but HTTP has no certificates"
	}
	return mirrorsFault(name, h[name].Mirrors)
}

// IsHost says whether name, the first element of a path, is a host: it has a
// dot or a port, is localhost, or is configured, and the grammar of a host
// holds. So ".git" and "Makefile" are none. Any case is accepted; the one
// spelling is that of [CanonicalHost].
func (h Hosts) IsHost(name string) bool {
	return h.meansHost(name) && hostFault(name) == ""
}

// meansHost says whether the first element of a name can only be a host.
func (h Hosts) meansHost(name string) bool {
	if looksLikeHost(name) {
		return true
	}
	_, configured := h[strings.ToLower(name)]
	return configured
}

// A Kind is a kind of remote.
type Kind int

// The kinds of remotes.
const (
	Registry Kind = iota // speaks the distribution specification
	Layouts              // a directory of OCI image layouts
)

// A Remote is what serves a host.
type Remote struct {
	Kind      Kind
	Addr      string    // Registry: HOST[:PORT] to ask; Layouts: the directory, HOST/a/b is the layout Addr/a/b
	Root      string    // Registry: the path below which its API begins; "" is /v2
	PlainHTTP bool      // ask over HTTP
	Fallback  bool      // ask over HTTP where HTTPS is refused: this machine, by name
	CA        []string  // as in Host
	Client    []KeyPair // as in Host
	Mirrors   []Remote  // to ask before it, in order; they have none themselves
}

// Remote returns what serves host. Of docker.io that is registry-1.docker.io.
// A mirror that is a configured host is reached as that one is.
func (h Hosts) Remote(host string) Remote {
	host = CanonicalHost(host)
	r := h.remote(host)
	for _, m := range h[host].Mirrors {
		r.Mirrors = append(r.Mirrors, h.mirror(m))
	}
	return r
}

// remote returns what serves host, which is canonical, without its mirrors.
func (h Hosts) remote(host string) Remote {
	conf := h[host]
	if conf.Layouts != "" {
		return Remote{Kind: Layouts, Addr: conf.Layouts}
	}
	r := Remote{Kind: Registry, Addr: host, PlainHTTP: conf.PlainHTTP, CA: conf.CA, Client: conf.Client}
	if host == dockerHost {
		r.Addr = dockerRegistry
	}
	r.Fallback = !r.PlainHTTP && isLoopback(host)
	return r
}
