package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
)

// A dialer opens a transport's connections. A loopback host may speak HTTPS or
// HTTP only: while HTTPS is tried, a spare connection for HTTP is opened beside
// it, so that the fallback costs no round trip.
type dialer struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	tls  *tls.Config

	mu     sync.Mutex
	spares map[string]chan net.Conn // by address; a nil connection is one that failed
}

// plain opens a connection without TLS, or takes the spare one.
func (d *dialer) plain(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	spare := d.spares[addr]
	delete(d.spares, addr)
	d.mu.Unlock()
	if spare != nil {
		if c := <-spare; c != nil {
			return c, nil
		}
	}
	return d.dial(ctx, network, addr)
}

// secure opens a connection and shakes hands. The error is
// http.ErrSchemeMismatch if the other side speaks no TLS.
func (d *dialer) secure(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var spare chan net.Conn
	if localName(addr) {
		spare = d.openSpare(network, addr)
	}
	c, err := d.handshake(ctx, network, addr)
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		d.keep(addr, spare)
		return nil, http.ErrSchemeMismatch
	}
	closeSpare(spare)
	return c, err
}

func (d *dialer) handshake(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	config := d.tls.Clone()
	if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
		raw.Close()
		return nil, err
	}
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// openSpare dials on its own time; who keeps the channel takes what comes.
func (d *dialer) openSpare(network, addr string) chan net.Conn {
	spare := make(chan net.Conn, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		c, err := d.dial(ctx, network, addr)
		if err != nil {
			c = nil // why shows when it is dialed again
		}
		spare <- c
	}()
	return spare
}

func (d *dialer) keep(addr string, spare chan net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	closeSpare(d.spares[addr])
	if spare != nil {
		d.spares[addr] = spare
	}
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for addr, spare := range d.spares {
		closeSpare(spare)
		delete(d.spares, addr)
	}
}

// closeSpare closes what a spare brings, without waiting for it.
func closeSpare(spare chan net.Conn) {
	if spare == nil {
		return
	}
	go func() {
		if c := <-spare; c != nil {
			c.Close()
		}
	}()
}
