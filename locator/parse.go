package locator

import "strings"

// dockerTag is what a reference without a tag and a digest means.
const dockerTag = "latest"

// ParseLocator reads [HOST/]PATH. Without a host, it is docker.io's. A tag or
// a digest is refused; the error, an *Error, tells the right form.
func (h Hosts) ParseLocator(s string) (Locator, error) {
	p := split(s)
	loc, err := h.locator(s, p.name)
	if err != nil {
		return Locator{}, err
	}
	switch {
	case p.hasDigest:
		return Locator{}, refuse(s, "digest", loc, "@"+p.digest)
	case p.hasTag && !strings.Contains(p.name, "/") && h.IsHost(p.name) && portFault(p.tag) == "":
		return Locator{}, &Error{Input: s, Part: "path", Why: "is missing, " + quote(s) + " is a host; write " + quote(s+"/PATH")}
	case p.hasTag:
		return Locator{}, refuse(s, "tag", loc, p.tag)
	}
	return loc, nil
}

// refuse is the error for a locator with an object behind it.
func refuse(s, part string, loc Locator, object string) error {
	right := quote(loc.String())
	if _, _, err := ParseObject(object); err == nil {
		right += " and " + quote(strings.TrimPrefix(object, "@"))
	}
	return &Error{Input: s, Part: part, Why: "a locator has none; where an object is wanted too, it is an argument of its own: " + right}
}

// ParseReference reads [HOST/]PATH[:TAG][@DIGEST] as docker does: without a
// host it is docker.io's, without a tag and a digest it is latest. The error
// is an *Error.
func (h Hosts) ParseReference(s string) (Reference, error) {
	p := split(s)
	if !strings.Contains(p.name, "/") && !p.hasDigest {
		if f := bareDigestFault(p); f != "" {
			return Reference{}, f.in(s, "reference")
		}
	}
	loc, err := h.locator(s, p.name)
	if err != nil {
		return Reference{}, err
	}
	ref := Reference{Locator: loc}
	if p.hasTag {
		if f := tagFault(p.tag); f != "" {
			return Reference{}, f.in(s, "tag")
		}
		ref.Tag = p.tag
	}
	if p.hasDigest {
		dgst, f := scanDigest(p.digest)
		if f != "" {
			return Reference{}, f.in(s, "digest")
		}
		ref.Digest = dgst
	}
	if !p.hasTag && !p.hasDigest {
		ref.Tag = dockerTag
	}
	return ref, nil
}

// bareDigestFault refuses what docker's grammar would take for a repository,
// but whoever typed it meant as a digest: sha256:HEX and 64 hex digits.
func bareDigestFault(p parts) fault {
	if p.hasTag && hexLen(p.name) != 0 {
		return "is a digest without a repository, write LOCATOR@DIGEST"
	}
	if _, f := scanDigest("sha256:" + p.name); f == "" && !p.hasTag {
		return "is 64 hex digits without a repository, write LOCATOR@sha256:HEX"
	}
	return ""
}

// parts are what a name splits into, unchecked.
type parts struct {
	name, tag, digest string
	hasTag, hasDigest bool
}

// split cuts the digest off at the first @, then the tag at the last colon
// behind the last slash.
func split(s string) (p parts) {
	p.name, p.digest, p.hasDigest = strings.Cut(s, "@")
	slash := strings.LastIndexByte(p.name, '/')
	if i := strings.LastIndexByte(p.name, ':'); i > slash {
		p.name, p.tag, p.hasTag = p.name[:i], p.name[i+1:], true
	}
	return p
}

// locator reads [HOST/]PATH; input is what errors quote.
func (h Hosts) locator(input, name string) (Locator, error) {
	if name == "" {
		return Locator{}, fault("is empty").in(input, "path")
	}
	if scheme, _, found := strings.Cut(name, "://"); found {
		return Locator{}, fault("begins with "+quote(scheme+"://")+", write HOST/PATH without it").in(input, "host")
	}
	loc := Locator{Host: dockerHost, Path: name}
	if host, path, found := strings.Cut(name, "/"); found && h.meansHost(host) {
		if f := hostFault(host); f != "" {
			return Locator{}, f.in(input, "host")
		}
		loc = Locator{Host: host, Path: path}
	}
	if f := pathFault(loc.Path); f != "" {
		return Locator{}, h.explain(name, f).in(input, "path")
	}
	loc = loc.Canonical()
	return loc, pathFault(loc.Path).in(input, "path")
}

// explain adds to f what the first element of name would have to be for a
// host, where that may have been meant.
func (h Hosts) explain(name string, f fault) fault {
	first, _, found := strings.Cut(name, "/")
	if found && !h.meansHost(first) && componentFault(first) != "" && hostFault(first) == "" {
		return f + "; " + fault(quote(first)) + " is no host either, it has no dot and no port and is not configured"
	}
	return f
}
