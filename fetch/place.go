package fetch

import (
	"net/url"
	"strings"
)

// place is the Location of an upload session. Where it is named by another
// scheme, or without the port, that is the registry behind a proxy that does not
// know its own name.
func (a *reply) place() (*url.URL, error) {
	location := a.header.Get("Location")
	if location == "" {
		return nil, nil //nolint:nilnil // it goes on where it was
	}
	to, err := a.at.Parse(location)
	if err != nil || len(to.String()) > maxTarget {
		return nil, broken("%s: an upload session's Location that is no URL", a.at.Host)
	}
	web := to.Scheme == "https" || to.Scheme == "http"
	if !web || to.User != nil || !strings.EqualFold(to.Hostname(), a.at.Hostname()) || to.Port() != "" && to.Port() != a.at.Port() {
		return nil, broken("%s: an upload session at another host, %s: nothing is sent there", a.at.Host, quoteLine(to.Host))
	}
	to.Scheme, to.Host, to.Fragment = a.at.Scheme, a.at.Host, ""
	return to, nil
}

// sessionRange reads an answer's Range: "0-LAST", of the bytes that a session
// has.
func (a *reply) sessionRange() (has int64, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(a.header.Get("Range"), "bytes="), "-")
	n, err := parseOffset(last)
	if !ok || first != "0" || err != nil || n > maxSize {
		return 0, false
	}
	return n + 1, true
}
