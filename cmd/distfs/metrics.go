package main

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"distfs/fetch"
	"distfs/fs"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
)

var _ = pflag.Value((*listenAddr)(nil))

// listenAddr is a flag that takes HOST:PORT. Without a host it is loopback;
// "" is nowhere.
type listenAddr string

func (a *listenAddr) String() string { return string(*a) }
func (a *listenAddr) Type() string   { return "ADDR" }

func (a *listenAddr) Set(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("no address such as :9090 or 10.0.0.1:9090")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	*a = listenAddr(net.JoinHostPort(host, port))
	return nil
}

const (
	maxScrapes    = 4  // answered at a time
	maxScrapers   = 16 // connected at a time
	scrapeTimeout = 10 * time.Second
)

// metrics serves /metrics. Its methods do nothing where none was asked for.
type metrics struct {
	l    net.Listener
	http *http.Server
	wg   sync.WaitGroup
}

// listenMetrics listens at addr, nowhere if that is "". What serve serves is
// waited for by who connects before.
func listenMetrics(addr listenAddr) (*metrics, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	l, err := net.Listen("tcp", string(addr)) //nolint:noctx // nothing to wait for
	if err != nil {
		return nil, err
	}
	return &metrics{l: l}, nil
}

// serve begins to serve what f and m count.
func (s *metrics) serve(f *fetch.Fetcher, m *fs.Mounted) error {
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{f, m},
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout}))
	s.http = &http.Server{
		Handler: mux, ReadTimeout: scrapeTimeout, WriteTimeout: 2 * scrapeTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
	}
	s.wg.Go(func() { _ = s.http.Serve(&fewListener{Listener: s.l, free: make(chan struct{}, maxScrapers)}) })
	return nil
}

func (s *metrics) close() {
	if s == nil {
		return
	}
	s.l.Close()
	if s.http != nil {
		s.http.Close()
	}
	s.wg.Wait()
}

// A fewListener closes what is more than it has places for.
type fewListener struct {
	net.Listener
	free chan struct{} // has an element for each connection
}

func (l *fewListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &fewConn{Conn: conn, leave: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			conn.Close()
		}
	}
}

type fewConn struct {
	net.Conn
	leave func()
}

func (c *fewConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// A collector makes metrics of what a fetcher and a mount count.
type collector struct {
	f *fetch.Fetcher
	m *fs.Mounted
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("distfs_"+name, help, labels, nil)
}

var (
	originBytes = desc("origin_bytes_total", "Bytes of objects that registries and layouts sent.")
	storeBytes  = desc("store_bytes_total", "Bytes that reads returned which were in the store when they were asked for. Reads by passthrough are the kernel's and not counted.")
	reads       = desc("reads_total", "Reads by whether their bytes were in the store (hit) or were waited for (miss). Reads by passthrough are the kernel's and not counted.", "result")
	opens       = desc("opens_total", "Opens of files by who reads them: the kernel, by passthrough, or this process.", "by")
	requests    = desc("http_requests_total", "HTTP requests by the host they went to and the status of the answer.", "host", "code")
	failures    = desc("errors_total", "Errors that programs got, by errno.", "errno")
	ingests     = desc("ingests", "Objects under way, by state.", "state")
	latencies   = desc("fuse_request_duration_seconds", "Requests of the kernel and how long they took, by kind.", "kind")
)

// Describe is prometheus.Collector's.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{originBytes, storeBytes, reads, opens, requests, failures, ingests, latencies} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	fetched, served := c.f.Stats(), c.m.Stats()
	count(originBytes, fetched.Origin)
	count(storeBytes, served.HitBytes)
	count(reads, served.Hits, "hit")
	count(reads, served.Misses, "miss")
	count(opens, served.Passed, "kernel")
	count(opens, served.Opened, "process")
	for r, n := range fetched.Requests {
		count(requests, n, r.Host, r.Code)
	}
	for errno, n := range served.Errors {
		count(failures, n, errno)
	}
	active := map[fetch.State]int{fetch.Resolving: 0, fetch.Waiting: 0, fetch.Downloading: 0, fetch.Verifying: 0}
	for _, p := range c.f.Active() {
		if p.State != fetch.Done {
			active[p.State]++
		}
	}
	for state, n := range active {
		ch <- prometheus.MustNewConstMetric(ingests, prometheus.GaugeValue, float64(n), string(state))
	}
	for kind, l := range served.Requests {
		buckets := make(map[float64]uint64, len(l.Buckets))
		for i, bound := range fs.LatencyBounds() {
			buckets[bound.Seconds()] = l.Buckets[i]
		}
		ch <- prometheus.MustNewConstHistogram(latencies, l.Count, l.Sum.Seconds(), buckets, kind)
	}
}

// beginMetrics serves metrics, if they were asked for, and says where.
func (p *program) beginMetrics(s *metrics, f *fetch.Fetcher, m *fs.Mounted) error {
	if s == nil {
		return nil
	}
	p.log.Info("metrics", "url", "http://"+s.l.Addr().String()+"/metrics")
	return s.serve(f, m)
}
