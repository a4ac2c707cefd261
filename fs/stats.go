package fs

import (
	"context"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Stats is what a mount counted since it was mounted. What the kernel answers
// by itself, reads by passthrough included, never comes here.
type Stats struct {
	Requests map[string]Latency // by kind: lookup, getattr, read …
	Errors   map[string]int64   // answers that were errors, by the errno's name
	Hits     int64              // READs all of whose bytes were here
	Misses   int64              // READs that waited for bytes
	HitBytes int64              // bytes that the hits returned
	Passed   int64              // opens that the kernel reads itself from then on
	Opened   int64              // opens that are read through this process
}

// Latency is how many requests took how long.
type Latency struct {
	Count   uint64
	Sum     time.Duration
	Buckets []uint64 // those of up to LatencyBounds()[i], the shorter ones included
}

// latencyBounds begin with what the memory of the process answers and end where
// requests wait for remotes.
var latencyBounds = [...]time.Duration{
	20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond,
	2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond,
	time.Second, 5 * time.Second, 30 * time.Second,
}

// LatencyBounds returns the upper bounds of a Latency's buckets.
func LatencyBounds() []time.Duration { return latencyBounds[:] }

// A kind of requests.
type kind int

const (
	kindLookup kind = iota
	kindGetAttr
	kindReadlink
	kindGetXAttr
	kindOpen
	kindRead
	kindReadDir
	kindReadDirPlus
	kindStatFs
	kinds
)

var kindNames = [kinds]string{"lookup", "getattr", "readlink", "getxattr", "open", "read", "readdir", "readdirplus", "statfs"}

// counts are what Stats is made of. The zero value is ready.
type counts struct {
	requests               [kinds]latency
	errors                 [errnoMax]atomic.Int64
	hits, misses, hitBytes atomic.Int64
	passed, opened         atomic.Int64
}

// errnoMax is above every errno of Linux that is a mount's answer.
const errnoMax = 134

// A latency is counted without a lock: its parts may differ by a request.
type latency struct {
	sum     atomic.Int64
	buckets [len(latencyBounds) + 1]atomic.Uint64
}

func (l *latency) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.buckets[i].Add(1)
	l.sum.Add(int64(d))
}

func (l *latency) read() Latency {
	all := Latency{Sum: time.Duration(l.sum.Load()), Buckets: make([]uint64, len(latencyBounds))}
	for i := range l.buckets {
		all.Count += l.buckets[i].Load()
		if i < len(all.Buckets) {
			all.Buckets[i] = all.Count
		}
	}
	return all
}

func (c *counts) read() Stats {
	s := Stats{
		Requests: make(map[string]Latency), Errors: make(map[string]int64),
		Hits: c.hits.Load(), Misses: c.misses.Load(), HitBytes: c.hitBytes.Load(),
		Passed: c.passed.Load(), Opened: c.opened.Load(),
	}
	for k := range c.requests {
		s.Requests[kindNames[k]] = c.requests[k].read()
	}
	for i := range c.errors {
		if n := c.errors[i].Load(); n > 0 {
			s.Errors[unix.ErrnoName(syscall.Errno(i))] = n
		}
	}
	return s
}

// Stats returns what was counted so far.
func (m *Mounted) Stats() Stats { return m.counted.counts.read() }

// counted is a server whose requests are counted and, at level debug, told,
// under the number that the kernel gave them.
type counted struct {
	*server
	counts counts
}

// answers says whether what looks like an error is none to a program: there is
// no such attribute, it is longer than the buffer, or the name is looked up
// once more.
func answers(status fuse.Status) bool {
	return status == fuse.ENODATA || status == fuse.ERANGE || status == fuse.Status(syscall.ESTALE)
}

// done counts a request that began then, and tells how it ended. It returns
// its status.
func (c *counted) done(k kind, began time.Time, id uint64, status fuse.Status) fuse.Status {
	took := time.Since(began)
	c.counts.requests[k].observe(took)
	if status > 0 && status < errnoMax && !answers(status) {
		c.counts.errors[status].Add(1)
	}
	if c.tells() {
		errno := "0"
		if status != fuse.OK {
			errno = unix.ErrnoName(syscall.Errno(status))
		}
		c.log.LogAttrs(numbered(id), slog.LevelDebug, kindNames[k]+" done", slog.String("errno", errno), slog.Duration("time", took))
	}
	return status
}

// begun tells that a request came, and returns when. What else is to be told
// of it is made only where it is.
func (c *counted) begun(k kind, id, node uint64, more func() []slog.Attr) time.Time {
	if c.tells() {
		path := ""
		if n := c.table.node(node); n != nil {
			path = n.String()
		}
		attrs := []slog.Attr{slog.String("path", path)}
		if more != nil {
			attrs = append(attrs, more()...)
		}
		c.log.LogAttrs(numbered(id), slog.LevelDebug, kindNames[k], attrs...)
	}
	return time.Now()
}

func (c *counted) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	began := c.begun(kindLookup, header.Unique, header.NodeId, func() []slog.Attr { return []slog.Attr{slog.String("name", name)} })
	return c.done(kindLookup, began, header.Unique, c.server.Lookup(cancel, header, name, out))
}

func (c *counted) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	began := c.begun(kindGetAttr, in.Unique, in.NodeId, nil)
	return c.done(kindGetAttr, began, in.Unique, c.server.GetAttr(cancel, in, out))
}

func (c *counted) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	began := c.begun(kindReadlink, header.Unique, header.NodeId, nil)
	target, status := c.server.Readlink(cancel, header)
	return target, c.done(kindReadlink, began, header.Unique, status)
}

func (c *counted) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	began := time.Now()
	n, status := c.server.GetXAttr(cancel, header, attr, dest)
	return n, c.done(kindGetXAttr, began, header.Unique, status)
}

func (c *counted) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	began := c.begun(kindOpen, in.Unique, in.NodeId, nil)
	status := c.server.Open(cancel, in, out)
	switch {
	case status != fuse.OK:
	case out.OpenFlags&fuse.FOPEN_PASSTHROUGH != 0:
		c.counts.passed.Add(1)
	default:
		c.counts.opened.Add(1)
	}
	return c.done(kindOpen, began, in.Unique, status)
}

func (c *counted) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	began := c.begun(kindRead, in.Unique, in.NodeId, func() []slog.Attr {
		return []slog.Attr{slog.Uint64("offset", in.Offset), slog.Uint64("bytes", uint64(in.Size))}
	})
	hit := c.hits(in)
	result, status := c.server.Read(cancel, in, buf)
	switch {
	case !hit:
		c.counts.misses.Add(1)
	case status == fuse.OK:
		c.counts.hits.Add(1)
		c.counts.hitBytes.Add(int64(result.Size()))
	}
	return result, c.done(kindRead, began, in.Unique, status)
}

// hits says whether all that is to be read is here.
func (c *counted) hits(in *fuse.ReadIn) bool {
	h := c.handles.get(in.Fh)
	if h == nil {
		return false
	}
	r, ok := h.reader.(interface{ here(off, n int64) bool })
	return ok && r.here(int64(in.Offset), int64(in.Size))
}

func (r lazyReader) here(off, n int64) bool { return r.obj.Here(off, min(n, r.obj.Size()-off)) }

func (r wholeReader) here(int64, int64) bool { return true }

func (c *counted) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := c.begun(kindReadDir, in.Unique, in.NodeId, nil)
	return c.done(kindReadDir, began, in.Unique, c.server.ReadDir(cancel, in, out))
}

func (c *counted) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	began := c.begun(kindReadDirPlus, in.Unique, in.NodeId, nil)
	return c.done(kindReadDirPlus, began, in.Unique, c.server.ReadDirPlus(cancel, in, out))
}

func (c *counted) StatFs(cancel <-chan struct{}, header *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	began := c.begun(kindStatFs, header.Unique, header.NodeId, nil)
	return c.done(kindStatFs, began, header.Unique, c.server.StatFs(cancel, header, out))
}

// tells says whether each request is to be told.
func (s *server) tells() bool { return s.log.Enabled(context.Background(), slog.LevelDebug) }

type requestKey struct{}

// RequestID returns the number of the request that ctx is of, as the kernel
// gave it. Only at level debug requests are numbered.
func RequestID(ctx context.Context) (uint64, bool) {
	id, ok := ctx.Value(requestKey{}).(uint64)
	return id, ok
}

func numbered(id uint64) context.Context {
	return context.WithValue(context.Background(), requestKey{}, id)
}

// base is the context that a request's is made of.
func (s *server) base(id uint64) context.Context {
	if s.tells() {
		return numbered(id)
	}
	return context.Background()
}
