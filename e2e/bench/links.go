package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"distfs/internal/slowlink"
)

// slowLink compares both over a line that gives each connection little.
func (b *bench) slowLink() (string, string, error) {
	link, err := slowlink.Listen(b.host, slowlink.Options{RTT: rtt, Bandwidth: 20_000_000})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	return b.through(link)
}

func (b *bench) through(link *slowlink.Link) (string, string, error) {
	slow := *b
	slow.host = link.Addr()
	pairs, err := compare(min(1, *runs), slow.fetchFresh, slow.craneToFile(true))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// slowTLS is slowLink with HTTPS, and HTTP/2 for who wants it.
func (b *bench) slowTLS() (string, string, error) {
	to, err := url.Parse("http://" + b.host)
	if err != nil {
		return "", "", err
	}
	secure := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(to))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	ca := b.path("ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		return "", "", err
	}
	if err := os.Setenv("SSL_CERT_FILE", ca); err != nil { // for distfs and crane
		return "", "", err
	}
	defer os.Unsetenv("SSL_CERT_FILE")
	link, err := slowlink.Listen(secure.Listener.Addr().String(), slowlink.Options{RTT: rtt, Bandwidth: 20_000_000})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	return b.through(link)
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
