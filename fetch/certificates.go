package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"distfs/locator"
)

// maxPEM bounds a file of certificates in bytes, maxFiles how many a host has.
const (
	maxPEM   = 4 << 20
	maxFiles = 64
)

// PEMFiles reads the value of "ca" in a configuration: a file, or a list of
// files, relative to dir.
func PEMFiles(v any, dir string) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return checked([]string{v}, dir)
	case []any:
		return texts(v, dir)
	}
	return nil, errors.New("no file and no list of files")
}

// KeyPairs reads the value of "client" in a configuration, as containerd has
// it: a file of a certificate and its key, a list of such files, or a list of
// pairs, [CERT, KEY]. Files are relative to dir.
func KeyPairs(v any, dir string) ([]locator.KeyPair, error) {
	list, ok := v.([]any)
	switch {
	case v == nil:
		return nil, nil
	case !ok:
		list = []any{v}
	case len(list) > maxFiles:
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	var pairs []locator.KeyPair
	for _, one := range list {
		if pair, ok := one.([]any); ok && len(pair) == 2 && pair[1] != "" {
			files, err := texts(pair, dir)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, locator.KeyPair{Cert: files[0], Key: files[1]})
			continue
		} else if ok && len(pair) == 2 {
			one = pair[0]
		}
		files, err := PEMFiles(one, dir)
		if _, isList := one.([]any); err != nil || isList {
			return nil, errors.New("no file, list of files, or list of pairs [CERT, KEY]")
		}
		pairs = append(pairs, locator.KeyPair{Cert: files[0]})
	}
	return pairs, nil
}

func texts(list []any, dir string) ([]string, error) {
	if len(list) > maxFiles {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	files := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no file's name", v)
		}
		files = append(files, s)
	}
	return checked(files, dir)
}

// checked makes names absolute. An empty one would be the folder.
func checked(files []string, dir string) ([]string, error) {
	for i, name := range files {
		if name == "" {
			return nil, errors.New("a file's name is empty")
		}
		if !filepath.IsAbs(name) {
			files[i] = filepath.Join(dir, name)
		}
	}
	return files, nil
}

// readPlain reads a regular file of at most maxBytes bytes: a fifo must not hang it.
func readPlain(name string, maxBytes int64) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err == nil && int64(len(b)) > maxBytes {
		err = fmt.Errorf("%s: more than %d bytes", name, maxBytes)
	}
	return b, err
}

// reach returns a transport for e where it is not reached as others are, made
// of the same options; remotes closes it. What e's redirects and token
// servers lead to is believed as e is, as containerd does, and never shown who
// asks, which containerd does.
func reach(e *endpoint, opts *Options) (*transport, error) {
	if !e.ownTLS() {
		return nil, nil //nolint:nilnil // the transport that all share will do
	}
	config := tlsConfig(opts)
	config.InsecureSkipVerify = e.skipVerify
	if len(e.CA) > 0 {
		pool, err := roots(e.CA, opts.RootCAs)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	pairs, err := loadPairs(e.Client)
	if err != nil {
		return nil, err
	}
	t := makeTransport(opts, config, e.dial)
	if len(pairs) > 0 {
		t.identify(e.Addr, pairs)
	}
	return t, nil
}

// An identity is a transport that shows a client's certificates to one host,
// and to no other that the same client comes to ask.
type identity struct {
	addr          string // as in URLs
	shown, hidden *http.Transport
}

// RoundTrip is http.RoundTripper's.
func (i *identity) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == i.addr {
		return i.shown.RoundTrip(req)
	}
	return i.hidden.RoundTrip(req)
}

// identify has t show certs to addr.
func (t *transport) identify(addr string, certs []tls.Certificate) {
	config := t.dialer.tls.Clone()
	config.Certificates = certs
	d := &dialer{dial: t.dialer.dial, tls: config, spares: make(map[string]chan net.Conn)}
	shown := roundTripper(d.plain, config, t.named.ResponseHeaderTimeout)
	shown.DialTLSContext = d.secure
	t.asks = &identity{addr: addr, shown: shown, hidden: t.named}
	t.closes = append(t.closes, shown.CloseIdleConnections, d.close)
}

// roots is the certificates of files, beside those of base, or of the system.
func roots(files []string, base *x509.CertPool) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine that has none
	}
	if base != nil {
		pool = base.Clone()
	}
	for _, name := range files {
		b, err := readPlain(name, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("ca: %s: no certificate (PEM) in it", name)
		}
	}
	return pool, nil
}

func loadPairs(pairs []locator.KeyPair) ([]tls.Certificate, error) {
	var certs []tls.Certificate
	for _, pair := range pairs {
		cert, err := readPlain(pair.Cert, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		key := cert
		if pair.Key != "" {
			if key, err = readPlain(pair.Key, maxPEM); err != nil {
				return nil, fmt.Errorf("client: %w", err)
			}
		}
		c, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("client: %s: %w", pair.Cert, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}
