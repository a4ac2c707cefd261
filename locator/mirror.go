package locator

import (
	"net/url"
	"path"
	"strconv"
	"strings"
)

// maxMirrors bounds how many a host may have.
const maxMirrors = 16

// mirrorsFault checks the mirrors of a host.
func mirrorsFault(host string, mirrors []string) fault {
	if len(mirrors) > maxMirrors {
		return fault("has " + strconv.Itoa(len(mirrors)) + " mirrors, at most 16 are allowed")
	}
	seen := make(map[string]bool)
	for _, m := range mirrors {
		scheme, addr, root, f := splitMirror(m)
		switch {
		case strings.Contains(m, "@"): // not repeated: a password may be in it
			return "has a mirror with a user in it; credentials come from the docker client's configuration"
		case f != "":
			return fault("mirror " + quote(m) + " " + string(f))
		case CanonicalHost(addr) == host && root == "":
			return fault("mirror " + quote(m) + " is the host itself")
		case seen[scheme+"://"+addr+root]:
			return fault("mirror " + quote(m) + " is given twice")
		}
		seen[scheme+"://"+addr+root] = true
	}
	return ""
}

// splitMirror takes HOST[:PORT][/PATH] apart, before which http:// or https://
// may stand. A path that begins or ends with v2 is the API's root as it
// stands, else /v2 is put behind it. The root is "" where it is /v2 alone.
func splitMirror(s string) (scheme, addr, root string, f fault) {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		scheme, rest = "", s
	}
	if found && scheme != "http" && scheme != "https" {
		return "", "", "", "is no URL of http or https"
	}
	addr, dir, _ := strings.Cut(rest, "/")
	if f := hostFault(addr); f != "" {
		return "", "", "", f
	}
	u, err := url.Parse("https://host/" + dir)
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", "", "", "has more than a host and a path"
	}
	root = path.Clean(u.EscapedPath())
	if root != "/v2" && !strings.HasPrefix(root, "/v2/") && !strings.HasSuffix(root, "/v2") {
		root = path.Join(root, "v2")
	}
	if root == "/v2" {
		root = ""
	}
	return scheme, strings.ToLower(addr), root, ""
}

// mirror returns the remote that a valid mirror names.
func (h Hosts) mirror(s string) Remote {
	scheme, addr, root, _ := splitMirror(s)
	r := h.remote(CanonicalHost(addr))
	if r.Kind == Layouts && scheme == "" && root == "" {
		return r
	}
	if r.Kind == Layouts {
		r = Remote{Kind: Registry, Addr: addr}
	}
	r.Root = root
	switch scheme {
	case "http":
		r.PlainHTTP, r.Fallback = true, false
	case "https":
		r.PlainHTTP, r.Fallback = false, false
	}
	return r
}
