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
}

// String returns the element that ParseName reads as n.
func (n Name) String() string {
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
// a colon is an object or nothing, never a tag of a repository "sha256". The
// error is an *Error.
func ParseName(elem string) (Name, error) {
	if len(elem) > maxName {
		return Name{}, fault("is "+strconv.Itoa(len(elem))+" bytes long, at most 255 are allowed").in(elem, "name")
	}
	rest, d, isImage := strings.Cut(elem, "@")
	repo, tag, isTagged := strings.Cut(rest, ":")
	if isTagged && !isImage && hexLen(repo) != 0 {
		dgst, f := scanDigest(elem)
		if f != "" {
			return Name{}, f.in(elem, "digest")
		}
		return Name{Kind: Object, Digest: dgst}, nil
	}
	if f := componentFault(repo); f != "" {
		return Name{}, f.in(elem, "name")
	}
	n := Name{Kind: Component, Repo: repo}
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
