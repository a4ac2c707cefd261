package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"distfs/locator"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A hostsFile is containerd's hosts.toml (its docs/hosts.md, and
// core/remotes/docker/config/hosts.go): what is said of the server at the top,
// and of hosts to ask before it. Keys that are not known are passed over, for
// later versions add some.
type hostsFile struct {
	hostTable
	Server string               `toml:"server"`
	Hosts  map[string]hostTable `toml:"host"`
}

// A hostTable is what a hosts.toml says of one address.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// maxSources bounds the hosts of a file.
const maxSources = 32

// A lineError is what is wrong with a file, and where.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// parseHosts reads a hosts.toml: whom to ask for host, in order. own is how the
// host itself is reached, for a file that names no server; files are relative
// to dir.
func parseHosts(b []byte, host string, own locator.Remote, dir string) ([]endpoint, error) {
	var file hostsFile
	err := toml.Unmarshal(b, &file)
	if malformed, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := malformed.Position()
		return nil, &lineError{line, err}
	}
	if err != nil {
		return nil, &lineError{1, err}
	}
	order, err := hostOrder(b, &file)
	if err != nil {
		return nil, err
	}
	var list []endpoint
	for _, h := range order {
		table := file.Hosts[h.name]
		e := endpoint{Remote: locator.Remote{Kind: locator.Registry}}
		if err := e.locate(h.name, table.OverridePath); err != nil {
			return nil, &lineError{h.line, fmt.Errorf("host %q: %w", withoutUser(h.name), err)}
		}
		if err := e.describe(&table, dir); err != nil {
			return nil, &lineError{h.line, fmt.Errorf("host %q: %w", withoutUser(h.name), err)}
		}
		list = append(list, e)
	}
	server := endpoint{Remote: own}
	if file.Server != "" {
		server.Remote = locator.Remote{Kind: locator.Registry}
		if err := server.locate(file.Server, file.OverridePath); err != nil {
			return nil, &lineError{lineOf(b, "server"), fmt.Errorf("server %q: %w", withoutUser(file.Server), err)}
		}
	}
	if err := server.describe(&file.hostTable, dir); err != nil {
		return nil, &lineError{1, fmt.Errorf("server: %w", err)}
	}
	if file.Server == "" { // as containerd has it
		server.can = canAll
	}
	list = append(list, server)
	for i := range list {
		list[i].standsIn(host)
	}
	return list, nil
}

// withoutUser is a URL for messages, which have no password in them.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "…" + s[i:]
	}
	return oneLine(s)
}

// locate sets where e is, as a hosts.toml has it: a URL, https:// being
// optional, whose path ends in /v2 or gets that behind it, unless the path is
// said to stand as it is.
func (e *endpoint) locate(server string, asItIs bool) error {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return errors.New("no URL") // url.Parse repeats it
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("no URL of http or https")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("a URL with more than a host and a path")
	}
	addr := strings.ToLower(u.Host)
	canonical := locator.CanonicalHost(addr)
	if err := (locator.Hosts{canonical: {}}).Validate(); err != nil {
		return err
	}
	e.Addr = addr
	if canonical == "docker.io" { // which itself answers nothing
		e.Addr = locator.Hosts(nil).Remote(canonical).Addr
	}
	e.PlainHTTP = u.Scheme == "http"
	e.Root = strings.TrimSuffix(path.Clean("/"+u.EscapedPath()), "/")
	if !asItIs && !strings.HasSuffix(e.Root, "/v2") {
		e.Root += "/v2"
	}
	switch e.Root {
	case "":
		e.Root = "/"
	case "/v2":
		e.Root = ""
	}
	return nil
}

// describe sets how e is reached and what it is trusted with.
func (e *endpoint) describe(t *hostTable, dir string) (err error) {
	if e.can, err = capabilities(t.Capabilities); err != nil {
		return err
	}
	if e.CA, err = PEMFiles(t.CA, dir); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	if e.Client, err = KeyPairs(t.Client, dir); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if e.header, err = headers(t.Header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if t.DialTimeout != "" {
		if e.dial, err = time.ParseDuration(t.DialTimeout); err != nil || e.dial <= 0 {
			return fmt.Errorf("dial_timeout: %q is no duration such as 3s", oneLine(t.DialTimeout))
		}
	}
	e.skipVerify = t.SkipVerify != nil && *t.SkipVerify
	// An http:// URL beside settings of TLS means both, HTTPS first (so do
	// containerd's own examples); port 80 means what it says.
	tlsToo := e.CA != nil || e.Client != nil || t.SkipVerify != nil
	if _, port, _ := net.SplitHostPort(e.Addr); e.PlainHTTP && tlsToo && port != "80" {
		e.PlainHTTP, e.Fallback = false, true
	}
	return nil
}

// capabilities reads a list of them; none are all.
func capabilities(names []string) (capability, error) {
	if len(names) == 0 {
		return canAll, nil
	}
	var can capability
	for _, name := range names {
		switch strings.ToLower(name) {
		case "pull":
			can |= canPull
		case "resolve":
			can |= canResolve
		case "push", "referrers": // the host itself is pushed to, and a list of referrers is resolved
		default:
			return 0, fmt.Errorf("capability %q is none of pull, resolve, push, referrers", oneLine(name))
		}
	}
	return can, nil
}

// headers reads the table of headers, each a text or a list of them. The values
// may be secret, and errors have none of them.
func headers(t map[string]any) (http.Header, error) {
	if len(t) == 0 {
		return nil, nil //nolint:nilnil // no headers are no error
	}
	h := make(http.Header)
	for name, v := range t {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, one := range list {
			s, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("%q has a value that is no text and no list of texts", oneLine(name))
			}
			if !isToken(name) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, fmt.Errorf("%q is no header, or has a value that can be none", oneLine(name))
			}
			h.Add(name, s)
		}
	}
	return h, nil
}

// isToken says whether s can be a header's name (RFC 9110, 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// A hostLine is the table of a host and where it begins.
type hostLine struct {
	name string
	line int
}

// hostOrder returns the hosts of a file, which was decoded, as they stand in it:
// a map has no order.
func hostOrder(b []byte, file *hostsFile) ([]hostLine, error) {
	if len(file.Hosts) > maxSources {
		return nil, &lineError{lineOf(b, "host"), fmt.Errorf("%d hosts, at most %d are asked", len(file.Hosts), maxSources)}
	}
	var list []hostLine
	eachKey(b, func(kind unstable.Kind, key []string, line int) {
		if kind != unstable.Table || len(key) < 2 || key[0] != "host" {
			return
		}
		if !slices.ContainsFunc(list, func(h hostLine) bool { return h.name == key[1] }) {
			list = append(list, hostLine{key[1], line})
		}
	})
	if len(list) != len(file.Hosts) {
		return nil, &lineError{lineOf(b, "host"), errors.New(`each host is a table of its own, [host."URL"]: their order counts`)}
	}
	return list, nil
}

// lineOf returns the line where a key of the top begins, else 1.
func lineOf(b []byte, name string) int {
	found := 1
	eachKey(b, func(_ unstable.Kind, key []string, line int) {
		if found == 1 && key[0] == name {
			found = line
		}
	})
	return found
}

// eachKey calls f for every expression of a file that was decoded: the header
// of a table, or a key with a value.
func eachKey(b []byte, f func(kind unstable.Kind, key []string, line int)) {
	var p unstable.Parser
	p.Reset(b)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var key []string
		line := 1
		for it := e.Key(); it.Next(); {
			if key == nil {
				line += bytes.Count(b[:it.Node().Raw.Offset], []byte("\n"))
			}
			key = append(key, string(it.Node().Data))
		}
		f(e.Kind, key, line)
	}
}
