package locator

import "strings"

// A colon is poison to some tools: to lists of paths, to overlay's lowerdir
// and to docker's -v. So in a name on disk an `=`, which no grammar here has,
// may stand for each colon. A name with one is a twin of the name without.

// colons returns the name whose twin elem is, and whether it is one.
func colons(elem string) (name string, isTwin bool) {
	if !strings.Contains(elem, "=") {
		return elem, false
	}
	return strings.ReplaceAll(elem, "=", ":"), true
}

// Twin returns the spelling of name without a colon.
func Twin(name string) string { return strings.ReplaceAll(name, ":", "=") }

// ParseHost reads the first element of a path on disk: a host or its twin. It
// returns the host with its colons, otherwise as it is spelled, and whether
// elem is one at all. References have no twins: there a host is [Hosts.IsHost].
func (h Hosts) ParseHost(elem string) (host string, ok bool) {
	host, _ = colons(elem)
	return host, h.IsHost(host)
}

// Alias returns the canonical name of a host that has another name beside it:
// docker.io for index.docker.io and registry-1.docker.io. Case makes no alias.
func Alias(host string) (canonical string, ok bool) {
	canonical = CanonicalHost(host)
	return canonical, canonical == dockerHost && !strings.EqualFold(host, dockerHost)
}
