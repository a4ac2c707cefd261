package locator

import (
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A NameKind is what a [Name] stands for.
type NameKind int

// The kinds of names below a host.
const (
	Component NameKind = iota // "redis": a repository, or a part of one's path
	Object                    // "sha256:…": an object of the repository that the path so far names
	Tag                       // "redis:7"
	Image                     // "redis@sha256:…" or "redis:7@sha256:…"
)

// A Name is one element of a path below a host, told apart by grammar alone.
type Name struct {
	Kind   NameKind
	Repo   string        // the component; "" for an Object
	Tag    string        // "" for a Component and an Object, may be "" for an Image
	Digest digest.Digest // "" for a Component and a Tag
	Twin   bool          // spelled with `=` for colons; never a Component
}

// String returns an element that ParseName reads as n: a twin has no colon.
func (n Name) String() string {
	if n.Twin {
		return Twin(n.Plain())
	}
	return n.Plain()
}

// Plain returns the element that means the same and is no twin.
func (n Name) Plain() string {
	if n.Kind == Object {
		return string(n.Digest)
	}
	return n.Repo + suffix(n.Tag, n.Digest)
}

// maxName is how long a name in a directory may be. The kernel hands on
// longer ones, but programs can't list them.
const maxName = 255

// ParseName reads one element of a path below a host. It takes no more than
// 255 bytes, and no element of two meanings: what begins with an algorithm and
// a colon is an object or nothing, never a tag of a repository "sha256". An `=`
// may stand for each colon. The error is an *Error.
func ParseName(elem string) (Name, error) {
	if len(elem) > maxName {
		return Name{}, fault("is "+strconv.Itoa(len(elem))+" bytes long, at most 255 are allowed").in(elem, "name")
	}
	name, isTwin := colons(elem)
	rest, d, isImage := strings.Cut(name, "@")
	repo, tag, isTagged := strings.Cut(rest, ":")
	if isTagged && !isImage && hexLen(repo) != 0 {
		dgst, f := scanDigest(name)
		if f != "" {
			return Name{}, f.in(elem, "digest")
		}
		return Name{Kind: Object, Digest: dgst, Twin: isTwin}, nil
	}
	if f := componentFault(repo); f != "" {
		return Name{}, f.in(elem, "name")
	}
	n := Name{Kind: Component, Repo: repo, Twin: isTwin}
	if isTagged {
		if f := tagFault(tag); f != "" {
			return Name{}, f.in(elem, "tag")
		}
		n.Kind, n.Tag = Tag, tag
	}
	if isImage {
		dgst, f := scanDigest(d)
		if f != "" {
			return Name{}, f.in(elem, "digest")
		}
		n.Kind, n.Digest = Image, dgst
	}
	return n, nil
}
