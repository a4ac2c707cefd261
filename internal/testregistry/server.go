package testregistry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A server is an HTTP server on a loopback port that it can leave and come back to.
type server struct {
	addr     string // with the port, once it has listened
	ca       *authority
	handler  http.Handler
	accepted atomic.Int64
	asks     bool // clients for a certificate
	insists  bool // on it

	mu    sync.Mutex
	http  *http.Server   // nil while stopped
	conns sync.WaitGroup // the accept loop and the connections
}

func newServer(addr string, ca *authority, h http.HandlerFunc, clientCert, insist bool) (*server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	s := &server{addr: addr, ca: ca, handler: h, asks: clientCert, insists: clientCert && insist}
	return s, s.start()
}

type connKey struct{}

func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return errors.New("it runs already")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", s.addr)
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	srv := &http.Server{
		Handler:           s.handler,
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			s.accepted.Add(1)
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.conns.Done()
			}
		},
	}
	serve := srv.Serve
	if s.ca != nil {
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{s.ca.leaf}, MinVersion: tls.VersionTLS12}
		if s.asks {
			srv.TLSConfig.ClientAuth = tls.RequestClientCert
		}
		if s.insists {
			srv.TLSConfig.ClientCAs = x509.NewCertPool()
			srv.TLSConfig.ClientCAs.AddCert(s.ca.cert)
			srv.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
		}
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	s.http = srv
	s.conns.Go(func() { _ = serve(l) })
	return nil
}

// stop closes the listener and all connections, and waits until each has ended.
func (s *server) stop() {
	s.mu.Lock()
	srv := s.http
	s.http = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Close()
		s.conns.Wait()
	}
}

// reset makes the connection of req end in a TCP reset and never returns.
// Over HTTP/2 the stream alone is reset.
func reset(req *http.Request) {
	c, _ := req.Context().Value(connKey{}).(net.Conn)
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok && req.ProtoMajor == 1 {
		_ = t.SetLinger(0)
	}
	panic(http.ErrAbortHandler)
}

// An authority is a CA made for one test and the server's certificate that it signed.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	leaf tls.Certificate
}

// client makes a client's certificate and its key, as PEM.
func (a *authority) client() (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "client"},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

func newAuthority(names []string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testregistry CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "testregistry"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    append([]string{"localhost"}, names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2), net.IPv6loopback},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}}, nil
}
