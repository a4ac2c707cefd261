package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"distfs/internal/slowlink"
)

// A testcase is a row of the table.
type testcase struct {
	name, target string
	root         bool // it cannot be measured by another user
	measure      func(b *bench) (measured, detail string, err error)
}

var cases = []testcase{
	{"complete, `cat` as root, × ext4", "≥ 0.95", true, func(b *bench) (string, string, error) { return b.warm(true) }},
	{"complete, `cat` again without passthrough, × ext4", "≥ 0.9", true, func(b *bench) (string, string, error) { return b.warm(false) }},
	{"cold, `cat` as root, against curl -o and a SHA-256", "≤ 1.1", true, func(b *bench) (string, string, error) { return b.cold(true, b.curlAndHash) }},
	{"cold, `cat` as another user, against the same", "≤ 1.3", true, func(b *bench) (string, string, error) { return b.cold(false, b.curlAndHash) }},
	{"cold, `cat` as root, against crane blob to a file", "≤ 1.2", true, func(b *bench) (string, string, error) { return b.cold(true, b.craneToFile(false)) }},
	{"fetch-object, cold, to /dev/null, against crane blob to a file and a sync of it", "≤ 1.0", false, (*bench).fetchObject},
	{"4 KiB at 800 MB, cold: moved, requests after the HEAD", "≤ 1.1 MiB, ≤ 2", false, (*bench).farRead},
	{"4 KiB at 800 MB, cold, a link of 40 ms: round trips", "≤ 4", false, (*bench).roundTrips},
	{"fetch-object, a link of 40 ms and 20 MB/s a connection, against crane blob", "≤ 0.35", false, (*bench).slowLink},
	{"stat of a known object, hot", "≥ 200 k/s", false, (*bench).stats},
	{"peak memory of the daemon over all of the above", "≤ 64 MiB", false, func(b *bench) (string, string, error) {
		return fmt.Sprintf("%.1f MiB", float64(b.peak)/1024), "", nil
	}},
}

// warm compares reading the whole object with reading the same bytes on ext4,
// both from the page cache.
func (b *bench) warm(root bool) (string, string, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return "", "", err
	}
	m, err := b.mount(store, root)
	if err != nil {
		return "", "", err
	}
	defer m.close()
	path := m.object(b.host)
	for range 4 { // fetched by the first, into the kernel's cache by the second, hot by the rest
		if _, err := m.cat(path); err != nil {
			return "", "", err
		}
	}
	if _, err := timed(exec.CommandContext(b.ctx, "cat", b.file)); err != nil {
		return "", "", err
	}
	pairs, err := compare(*runs,
		func() (time.Duration, error) { return timed(exec.CommandContext(b.ctx, "cat", b.file)) },
		func() (time.Duration, error) { return m.cat(path) })
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs) + " (ext4 first)", nil
}

// cold compares the first read through a mount on an empty store with what
// another program does.
func (b *bench) cold(root bool, other func() (time.Duration, error)) (string, string, error) {
	store := b.path("store")
	pairs, err := compare(*runs, func() (time.Duration, error) {
		if err := fresh(store); err != nil {
			return 0, err
		}
		m, err := b.mount(store, root)
		if err != nil {
			return 0, err
		}
		defer m.close()
		return m.cat(m.object(b.host))
	}, other)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

func (b *bench) url() string {
	return "http://" + b.host + "/v2/" + repo + "/blobs/" + b.dgst.String()
}

// curlAndHash downloads without a check, then hashes what came.
func (b *bench) curlAndHash() (time.Duration, error) {
	out := b.path("curl.out")
	if err := fresh(out); err != nil {
		return 0, err
	}
	d, err := timed(exec.CommandContext(b.ctx, "curl", "-sS", "-o", out, b.url()))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	f, err := os.Open(out)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	if fmt.Sprintf("%x", h.Sum(nil)) != b.dgst.Encoded() {
		return 0, errors.New("curl brought something else")
	}
	return d + time.Since(start), nil
}

// slowLink compares both over a line that gives each connection little.
func (b *bench) slowLink() (string, string, error) {
	link, err := slowlink.Listen(b.host, slowlink.Options{RTT: rtt, Bandwidth: 20_000_000})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	slow := *b
	slow.host = link.Addr()
	pairs, err := compare(min(1, *runs), slow.fetchFresh, slow.craneToFile(true))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// craneToFile has crane write the blob to a file, which it verifies.
func (b *bench) craneToFile(sync bool) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		out := b.path("crane.out")
		if err := fresh(out); err != nil {
			return 0, err
		}
		script := `"$0" blob --insecure "$1" > "$2"`
		if sync {
			script += ` && sync "$2"`
		}
		return timed(exec.CommandContext(b.ctx, "sh", "-c", script, b.crane, b.host+"/"+repo+"@"+b.dgst.String(), out))
	}
}

// fetchFresh has distfs write the blob to /dev/null, into an empty store.
func (b *bench) fetchFresh() (time.Duration, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return 0, err
	}
	return timed(exec.CommandContext(b.ctx, b.distfs, "--store", store, "fetch-object", b.host+"/"+repo, b.dgst.String()))
}

func (b *bench) fetchObject() (string, string, error) {
	pairs, err := compare(*runs, b.fetchFresh, b.craneToFile(true))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// A counter is a proxy before the registry that counts.
type counter struct {
	*httptest.Server
	heads, gets, moved atomic.Int64
}

func (b *bench) count() (*counter, error) {
	to, err := url.Parse("http://" + b.host)
	if err != nil {
		return nil, err
	}
	c := &counter{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			c.heads.Add(1)
		} else {
			c.gets.Add(1)
		}
		proxy.ServeHTTP(counting{w, &c.moved}, r)
	}))
	return c, nil
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// far is where the far read is.
func far() int64 { return min(800_000_000, *size/5*4) }

// readFar reads 4 KiB far into the object through a mount on an empty store.
func (b *bench) readFar(host string) (time.Duration, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return 0, err
	}
	m, err := b.mount(store, os.Getuid() == 0)
	if err != nil {
		return 0, err
	}
	defer m.close()
	start := time.Now()
	f, err := os.Open(m.object(host))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4096), far()); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func (b *bench) farRead() (string, string, error) {
	c, err := b.count()
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if _, err := b.readFar(c.Listener.Addr().String()); err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f MiB, %d", float64(c.moved.Load())/(1<<20), c.gets.Load()), fmt.Sprintf("%d HEAD", c.heads.Load()), nil
}

// rtt is the round trip of the slow links.
const rtt = 40 * time.Millisecond

func (b *bench) roundTrips() (string, string, error) {
	link, err := slowlink.Listen(b.host, slowlink.Options{RTT: rtt})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	pairs, err := compare(*runs,
		func() (time.Duration, error) { return b.readFar(link.Addr()) },
		func() (time.Duration, error) { return b.readFar(b.host) })
	if err != nil {
		return "", "", err
	}
	var trips []pair
	for _, p := range pairs {
		trips = append(trips, pair{p.a - p.b, rtt})
	}
	return fmt.Sprintf("%.0f", ratio(trips)), medians(pairs) + " (without the link)", nil
}

// stats asks for the attributes of an object as fast as it can.
func (b *bench) stats() (string, string, error) {
	store := b.path("store")
	m, err := b.mount(store, os.Getuid() == 0)
	if err != nil {
		return "", "", err
	}
	defer m.close()
	path := m.object(b.host)
	var st syscall.Stat_t
	n := 0
	var start time.Time
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if n == 0 {
			start = time.Now()
		}
		for range 1000 {
			if err := syscall.Stat(path, &st); err != nil {
				return "", "", err
			}
		}
		n += 1000
	}
	return fmt.Sprintf("%.0f k/s", float64(n)/time.Since(start).Seconds()/1000), "", nil
}
