// Package locator reads the names of repositories and of what is in them.
//
//	locator    ghcr.io/org/app                     a host and a repository's path
//	reference  ghcr.io/org/app:v1@sha256:…         a locator with a tag, a digest or both
//	object     v1 | v1@sha256:… | @sha256:… | sha256:…
//	name       app | app:v1 | app@sha256:… | sha256:…   one element of a path below a host
//
// The grammar is that of the distribution specification (pull.md, "name" and
// "reference") and of docker's references: a host has a dot or a port or is
// localhost, anything else is a path on docker.io, and a single element there
// stands for library/ELEMENT. [Hosts] adds names that the user configured and
// says which remote serves a host.
//
// What this package accepts is safe to use as it stands in a path on disk, in
// a URL and in a header: printable ASCII, no element empty, `.` or `..`, each
// element at most 255 bytes. Nothing here asks the network or reads a file,
// not even the resolver: whether a host is this machine is told by its name.
// Everything may be used by any number of goroutines at once.
package locator

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Locator is where a repository is: the host that answers for it and its
// path there. One that ParseLocator returned is canonical: "redis",
// "docker.io/redis" and "index.docker.io/library/redis" are all
// {"docker.io", "library/redis"}.
type Locator struct {
	Host string // with its port, an IPv6 address in brackets
	Path string // one or more components, joined by slashes
}

// String returns HOST/PATH, which ParseLocator reads back.
func (l Locator) String() string {
	return l.Host + "/" + l.Path
}

// Canonical returns l under the name by which it is stored and fetched: the
// host as [CanonicalHost] has it, and on docker.io a path of one component
// below library/. Use it on a Locator put together from parts.
func (l Locator) Canonical() Locator {
	l.Host = CanonicalHost(l.Host)
	if l.Host == dockerHost && l.Path != "" && !strings.Contains(l.Path, "/") {
		l.Path = dockerLibrary + "/" + l.Path
	}
	return l
}

// A Reference is one object in a repository. At least one of Tag and Digest is
// set; where both are, the digest says what is meant.
type Reference struct {
	Locator
	Tag    string
	Digest digest.Digest
}

// String returns HOST/PATH[:TAG][@DIGEST], which ParseReference reads back.
func (r Reference) String() string {
	return r.Locator.String() + suffix(r.Tag, r.Digest)
}

// suffix returns what stands behind a repository's name.
func suffix(tag string, dgst digest.Digest) string {
	var s string
	if tag != "" {
		s = ":" + tag
	}
	if dgst != "" {
		s += "@" + string(dgst)
	}
	return s
}
