package fetch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"distfs/locator"
)

// Mirrors is a remote of several, named 0, 1, …; the last is the host itself.
func Mirrors(timeout time.Duration, list ...Remote) Remote {
	var sources []*source
	for i, r := range list {
		sources = append(sources, &source{Remote: r, name: fmt.Sprint(i), can: canAll})
	}
	return newMirrors("host.test", sources, timeout)
}

// HostsFile returns what a hosts.toml says, a line for each whom to ask.
func HostsFile(b []byte, host, dir string) ([]string, error) {
	list, err := parseHosts(b, host, locator.Hosts(nil).Remote(host), dir)
	var lines []string
	for i := range list {
		lines = append(lines, list[i].String())
	}
	return lines, err
}

func (e *endpoint) String() string {
	scheme := "https"
	if e.PlainHTTP {
		scheme = "http"
	} else if e.Fallback {
		scheme = "https/http"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s://%s%s", scheme, e.Addr, e.root())
	for bit, name := range []string{"pull", "resolve"} {
		if e.can&(1<<bit) != 0 {
			b.WriteString(" " + name)
		}
	}
	if e.ns != "" {
		b.WriteString(" ns=" + e.ns)
	}
	for _, ca := range e.CA {
		b.WriteString(" ca=" + ca)
	}
	for _, pair := range e.Client {
		b.WriteString(" client=" + pair.Cert + "+" + pair.Key)
	}
	if e.skipVerify {
		b.WriteString(" skip_verify")
	}
	for _, name := range slices.Sorted(maps.Keys(e.header)) {
		fmt.Fprintf(&b, " %s=%q", name, e.header[name])
	}
	if e.dial > 0 {
		fmt.Fprintf(&b, " dial=%v", e.dial)
	}
	return b.String()
}

// A Watch is a watch, for the test of its bounds.
type Watch struct{ *watch }

// NewWatch is newWatch.
func NewWatch() Watch { return Watch{newWatch(slog.New(slog.DiscardHandler))} }

// Count is count.
func (w Watch) Count(host string, named bool, resp *http.Response) { w.count(host, named, resp) }

// Counted is counted.
func (w Watch) Counted() map[Request]int64 { return w.counted() }

// SetChunk has p's uploads go by chunks of n bytes.
func (p *Pusher) SetChunk(n int64) { p.chunk = n }

// A Limits is limits, for the test of its bounds.
type Limits struct{ *limits }

// NewLimits is newLimits.
func NewLimits() Limits { return Limits{newLimits(false)} }

// Acquire is acquire, for who waits.
func (l Limits) Acquire(host string) bool { return l.acquire(host, true, make(chan struct{}, 1)) }

// Stall is stall.
func (l Limits) Stall(host string) { l.stall(host) }

// Regain is regain.
func (l Limits) Regain(ctx context.Context, host string) { l.regain(ctx, host) }

// ReleaseStalled is release.
func (l Limits) ReleaseStalled(host string) { l.release(host, true) }

// Unreleased counts the connections that f's limits still have, as making progress
// and as stalled. What was given back twice counts too.
func Unreleased(f *Fetcher) (n [2]int) {
	f.limits.mu.Lock()
	defer f.limits.mu.Unlock()
	for _, h := range f.limits.hosts {
		n[0] += max(h.active, -h.active)
		n[1] += max(h.stalled, -h.stalled)
	}
	return n
}
