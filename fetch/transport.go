package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// dialTimeout bounds the making of one connection, its handshake included.
const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
)

// A transport sends requests as they are: no redirect is followed, nothing is
// tried again, nothing decompressed. Two of them differ in whom they reach.
type transport struct {
	named  *http.Transport   // whom the user named: registries and their token servers
	bare   *http.Transport   // whom a registry's redirect named: public addresses only
	asks   http.RoundTripper // named, or what shows a certificate to the registry beside it
	dialer *dialer           // of named
	closes []func()          // what else close does
	gates  *gates            // of both
	watch  *watch            // over all requests
}

// errRefusedAddr is an address that is not for others to name.
var errRefusedAddr = errors.New("address is local: refused where a registry or a manifest names it")

func newTransport(opts *Options) *transport { return makeTransport(opts, tlsConfig(opts), 0) }

func tlsConfig(opts *Options) *tls.Config {
	return &tls.Config{RootCAs: opts.RootCAs, MinVersion: tls.VersionTLS12}
}

// makeTransport makes a transport whose connections are made within a time; 0
// is dialTimeout.
func makeTransport(opts *Options, config *tls.Config, within time.Duration) *transport {
	if within <= 0 || within > dialTimeout {
		within = dialTimeout
	}
	named, bare := bounded(opts.Dial, within), bounded(opts.Dial, within)
	if opts.Dial == nil {
		named = (&net.Dialer{Timeout: within, KeepAlive: keepAlive}).DialContext
		bare = exceptProxies(named, (&net.Dialer{Timeout: within, KeepAlive: keepAlive, Control: publicOnly}).DialContext)
	}
	d := &dialer{dial: named, tls: config, spares: make(map[string]chan net.Conn)}
	t := &transport{named: roundTripper(d.plain, config, opts.Timeout), bare: roundTripper(bare, config, opts.Timeout), dialer: d, gates: &gates{most: opts.Timeout}, watch: newWatch(opts.Log)}
	t.named.DialTLSContext = d.secure
	t.asks = t.named
	return t
}

// bounded dials as other does, and gives up after a time.
func bounded(other dial, within time.Duration) dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		return other(ctx, network, addr)
	}
}

// roundTripper has no HTTP/2, on which parallel ranges would share one
// connection, and asks for bytes as they are stored.
func roundTripper(dial func(context.Context, string, string) (net.Conn, error), config *tls.Config, timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial,
		TLSHandshakeTimeout:    dialTimeout,
		TLSClientConfig:        config,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  timeout,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         32 << 10,
	}
}

func (t *transport) close() {
	t.named.CloseIdleConnections()
	t.bare.CloseIdleConnections()
	t.dialer.close()
	for _, c := range t.closes {
		c()
	}
}

type dial func(ctx context.Context, network, addr string) (net.Conn, error)

// exceptProxies dials the user's own proxies as named, wherever they are, and
// all else as other.
func exceptProxies(named, other dial) dial {
	proxies := make(map[string]bool)
	for _, scheme := range []string{"http", "https"} {
		u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "registry.invalid"}})
		if err != nil || u == nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
		}
		proxies[net.JoinHostPort(u.Hostname(), port)] = true
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if proxies[addr] {
			return named(ctx, network, addr)
		}
		return other(ctx, network, addr)
	}
}

// publicOnly is a net.Dialer's Control: a registry may redirect to another
// server, but not into the machine that follows it, nor to what describes it.
func publicOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", errRefusedAddr, address)
	}
	if local(ap.Addr()) {
		return fmt.Errorf("%w: %s", errRefusedAddr, ap.Addr())
	}
	return nil
}

// reserved are further addresses that no registry has business with: where
// clouds tell a machine its secrets, and ranges that are nobody's.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("fd00:ec2::/64"),
	netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("fec0::/10"),
}

// embedding are the IPv6 ranges that stand for IPv4 addresses, and where in an
// address the IPv4 one begins (RFC 6052, RFC 8215, RFC 3056).
var embedding = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"):   12,
	netip.MustParsePrefix("64:ff9b:1::/48"): 12,
	netip.MustParsePrefix("2002::/16"):      2,
}

func local(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return true
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return true
		}
	}
	for p, at := range embedding {
		if b := a.As16(); a.Is6() && p.Contains(a) && local(netip.AddrFrom4([4]byte(b[at:at+4]))) {
			return true
		}
	}
	return false
}

// localName says whether host, as in a URL, is on this machine by its name
// alone; only then may it redirect to such hosts too.
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || host == metadataName {
		return true
	}
	a, err := netip.ParseAddr(trimBrackets(host))
	if err != nil {
		return endsInNumber(host)
	}
	return local(a)
}

// metadataName is where Google's cloud tells a machine its secrets.
const metadataName = "metadata.google.internal"

// endsInNumber says whether a host that is no IP address is one to others, a
// proxy say: 127.1, 2130706433, 0x7f.1 (URL Standard, "ends in a number").
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		last, digits = hex, digits+"abcdef"
	} else if last == "" {
		return false
	}
	return strings.Trim(last, digits) == ""
}

func trimBrackets(s string) string {
	if len(s) > 1 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}
