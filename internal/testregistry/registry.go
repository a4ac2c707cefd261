// Package testregistry is an image registry in memory, on loopback, for tests.
//
// It speaks the OCI distribution spec, pulls and pushes, over HTTP or HTTPS, with a
// token server and a content delivery network (CDN) beside it, each on a port of its own.
// What real registries do wrong is an option (what one does always: [Options]) or a
// [Fault] (what befalls chosen requests, set and lifted while a test runs).
// Nothing in it depends on time: tokens and signatures expire by use or on demand,
// and a stalled answer goes on when the test says so or its client leaves.
//
// A Registry is safe for use by many goroutines. Manifests are answered whole,
// whatever range was asked for, as distribution does.
package testregistry

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Options say how a registry behaves always. A nil *Options means the zero value:
// plain HTTP, no authentication, every answer by the specification.
type Options struct {
	TLS   bool     // HTTPS, HTTP/2 too, under an own CA: see CertPool
	Names []string // further host names that the certificate is valid for

	ClientCert bool // over TLS, who shows no certificate of the CA is refused by the registry: see ClientFiles

	Addr    string // where the registry listens; "" is 127.0.0.1:0
	CDNAddr string // where the redirects' target listens; "" is 127.0.0.1:0

	Auth          Auth
	User          string // asked for by Basic, and by the token server if not ""
	Password      string
	IdentityToken string // what the token server takes as a refresh token; "" none
	Realm         string // URL of the token server as told to clients; "" is its own
	Service       string // "" is the registry's host
	TokenUses     int    // after that many requests a token has expired; 0 never
	ExpiredStatus int    // the answer to an expired token; 0 is 401

	Redirect      bool // blobs lie on the CDN: GET and HEAD answer 307
	SignatureUses int  // after that many requests a redirect's URL answers 403; 0 never

	// Distribution2 makes it answer as distribution 2.8.2: a manifest's digest is unknown
	// under blobs/ (else it is served there too), HEAD manifests/<a layer's digest> is 500,
	// and an OCI manifest is 404 for who does not accept its media type.
	Distribution2 bool

	NoDigestHeader bool // no Docker-Content-Digest on anything
	NoReferrers    bool // it does not speak the referrers API: 404
	ReferrersPage  int  // how many are on a page of a list of them; 0 all
	NoRanges       bool // blobs answer 200 and whole to every range

	StrictUploads bool // a session of which a chunk was cut can't be gone on with: its status is 416

	NoMount  bool  // what is to be mounted is to be uploaded
	ChunkMin int64 // a chunk of an upload that is shorter must be the last; said as OCI-Chunk-Min-Length
}

// A Registry is a running registry. It stops when its test ends.
type Registry struct {
	opts  Options
	ca    *authority // nil without TLS
	reg   *server
	cdn   *server
	token *server

	mu      sync.Mutex
	repos   map[string]*repository
	faults  []*Active
	log     []*Request
	changed chan struct{} // closed and made anew whenever log changes
	flight  flight
	tokens  map[string]*grant
	signed  map[string]int // uses of each signature so far
	issued  int            // tokens, signatures and sessions handed out, for their names
	uploads map[string]*session
}

// Start starts a registry and has it closed at the end of tb.
func Start(tb testing.TB, opts *Options) *Registry {
	tb.Helper()
	r := &Registry{
		repos:   map[string]*repository{},
		changed: make(chan struct{}),
		tokens:  map[string]*grant{},
		signed:  map[string]int{},
		uploads: map[string]*session{},
		flight:  flight{now: map[string]int{}, peak: map[string]int{}},
	}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.TLS {
		ca, err := newAuthority(r.opts.Names)
		if err != nil {
			tb.Fatalf("testregistry: %v", err)
		}
		r.ca = ca
	}
	r.reg = r.listen(tb, r.opts.Addr, r.serveRegistry)
	r.cdn = r.listen(tb, r.opts.CDNAddr, r.serveCDN)
	r.token = r.listen(tb, "", r.serveToken)
	return r
}

func (r *Registry) listen(tb testing.TB, addr string, h http.HandlerFunc) *server {
	tb.Helper()
	s, err := newServer(addr, r.ca, h, r.opts.ClientCert, r.reg == nil)
	if err != nil {
		tb.Fatalf("testregistry: %v", err)
	}
	tb.Cleanup(s.stop)
	return s
}

// Host returns the registry's host and port, as in a locator.
func (r *Registry) Host() string { return r.reg.addr }

// URL returns the registry's address with its scheme and no path.
func (r *Registry) URL() string { return r.scheme() + "://" + r.reg.addr }

// CDNHost returns the host and port that redirects lead to.
func (r *Registry) CDNHost() string { return r.cdn.addr }

// TokenHost returns the token server's host and port.
func (r *Registry) TokenHost() string { return r.token.addr }

func (r *Registry) scheme() string {
	if r.ca != nil {
		return "https"
	}
	return "http"
}

// CertPool returns the pool with the CA that vouches for r, or an empty one without TLS.
func (r *Registry) CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	if r.ca != nil {
		pool.AddCert(r.ca.cert)
	}
	return pool
}

// CAFile writes the CA's certificate to a file of the test's and returns its path.
func (r *Registry) CAFile(tb testing.TB) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.ca.cert.Raw})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		tb.Fatalf("testregistry: %v", err)
	}
	return file
}

// ClientFiles writes a client's certificate, which the CA signed, and its key to files
// of the test's and returns their paths.
func (r *Registry) ClientFiles(tb testing.TB) (cert, key string) {
	tb.Helper()
	dir := tb.TempDir()
	cert, key = filepath.Join(dir, "client.cert"), filepath.Join(dir, "client.key")
	certPEM, keyPEM, err := r.ca.client()
	if err == nil {
		err = os.WriteFile(cert, certPEM, 0o600)
	}
	if err == nil {
		err = os.WriteFile(key, keyPEM, 0o600)
	}
	if err != nil {
		tb.Fatalf("testregistry: %v", err)
	}
	return cert, key
}

// Stop makes the registry unreachable: it listens no more, and what it was
// answering is cut. The CDN and the token server go on.
func (r *Registry) Stop() { r.reg.stop() }

// Restart makes a stopped registry listen where it did before. It panics if it can't.
func (r *Registry) Restart() {
	if err := r.reg.start(); err != nil {
		panic("testregistry: " + err.Error())
	}
}

// Conns returns how many TCP connections the registry accepted, its CDN's and its token server's too.
func (r *Registry) Conns() int {
	return int(r.reg.accepted.Load() + r.cdn.accepted.Load() + r.token.accepted.Load())
}

// repository returns the repository of that name, made where absent. r.mu is held.
func (r *Registry) repository(name string) *repository {
	repo := r.repos[name]
	if repo == nil {
		repo = &repository{blobs: map[digest.Digest]*object{}, manifests: map[digest.Digest]*object{}, tags: map[string]digest.Digest{}}
		r.repos[name] = repo
	}
	return repo
}
