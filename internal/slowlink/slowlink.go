// Package slowlink is a long, narrow line to a server on loopback.
//
// It forwards TCP, so that HTTP, TLS and what else speaks over it pay as they would on a
// real line: the first bytes of a new connection come one round trip late, as after a
// handshake, every question's answer takes a round trip more, and each connection has a
// bandwidth of its own. Bytes and connections are counted.
//
// Delays are kept with the accuracy of the machine's timers (about a millisecond) and are
// never shorter than asked. At most 16 MiB a connection and direction are under way.
package slowlink

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a link is like. The zero value adds nothing and counts.
type Options struct {
	Addr      string        // where it listens; "" is 127.0.0.1:0
	RTT       time.Duration // there and back
	Bandwidth int64         // bytes a second to the client, for each connection; 0 is no limit
}

// Stats are counts since the link began.
type Stats struct {
	Conns    int64 // accepted
	Up, Down int64 // bytes that reached the server, the client
}

// A Link forwards connections until it is closed. It is safe for use by many goroutines.
type Link struct {
	listener net.Listener
	target   string
	opts     Options
	cancel   context.CancelFunc
	running  sync.WaitGroup

	conns, up, down atomic.Int64
}

// Listen starts a link to the server at target, a host and port. The caller closes it.
func Listen(target string, opts Options) (*Link, error) {
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", opts.Addr)
	if err != nil {
		cancel()
		return nil, err
	}
	l := &Link{listener: listener, target: target, opts: opts, cancel: cancel}
	l.running.Go(func() { l.accept(ctx) })
	return l, nil
}

// Addr returns the host and port at which the link listens.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Stats returns the counts.
func (l *Link) Stats() Stats { return Stats{l.conns.Load(), l.up.Load(), l.down.Load()} }

// Close cuts all connections, waits for its goroutines and leaves the port.
func (l *Link) Close() error {
	err := l.listener.Close()
	l.cancel()
	l.running.Wait()
	return err
}

func (l *Link) accept(ctx context.Context) {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.conns.Add(1)
		l.running.Go(func() { l.forward(ctx, client) })
	}
}

// forward joins one client's connection to one of its own to the server.
func (l *Link) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	if !sleep(ctx, l.opts.RTT) {
		return
	}
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { carry(ctx, server, client, l.opts.RTT/2, 0, &l.up) })
	both.Go(func() { carry(ctx, client, server, l.opts.RTT/2, l.opts.Bandwidth, &l.down) })
	both.Wait()
}

// A parcel is bytes on the line and when they are due at its other end.
type parcel struct {
	b   []byte
	due time.Time
}

const (
	parcelSize = 64 << 10
	parcels    = 256
)

// carry moves bytes from src to dst until src ends, each delay later and no faster than
// bandwidth, then tells dst that no more will come. If dst is gone it closes src.
func carry(ctx context.Context, dst, src net.Conn, delay time.Duration, bandwidth int64, count *atomic.Int64) {
	line := make(chan parcel, parcels)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(line)
		load(ctx, line, src, delay, bandwidth)
	})
	defer reader.Wait()
	gone := false
	for p := range line {
		if !sleep(ctx, time.Until(p.due)) {
			break
		}
		n, err := dst.Write(p.b)
		count.Add(int64(n))
		if gone = err != nil; gone {
			break
		}
	}
	if t, ok := dst.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	if gone {
		src.Close() // ends the reader, and tells the other side
	}
	for range line { // what dst no longer takes
	}
}

// load reads src to its end and puts it on the line.
func load(ctx context.Context, line chan<- parcel, src io.Reader, delay time.Duration, bandwidth int64) {
	var free time.Time // when the line has room for more
	for {
		b := make([]byte, parcelSize)
		n, err := src.Read(b)
		if n > 0 {
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			if bandwidth > 0 {
				free = free.Add(time.Duration(float64(n) / float64(bandwidth) * float64(time.Second)))
			}
			select {
			case line <- parcel{b[:n], free.Add(delay)}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// sleep returns false if ctx ended before d was over.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
