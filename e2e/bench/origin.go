package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"distfs/internal/testregistry"
)

// An origin is a registry of made-up blobs that counts what it sends and, when
// it is told to, keeps who asks waiting.
type origin struct {
	*httptest.Server
	sent   atomic.Int64 // bytes of bodies
	asking atomic.Int64 // GETs that are kept waiting

	mu    sync.Mutex
	blobs map[string]testregistry.Synthetic
	held  map[string]bool
	gate  chan struct{} // closed when the held are let go
}

func newOrigin() *origin {
	o := &origin{blobs: make(map[string]testregistry.Synthetic), held: make(map[string]bool), gate: make(chan struct{})}
	o.Server = httptest.NewServer(o)
	return o
}

func (o *origin) host() string { return o.Listener.Addr().String() }

// add makes a blob. Its digest is a true one only where asked for: of what is
// never read to the end nobody compares it.
func (o *origin) add(seed uint64, size int64, verified bool) (digest.Digest, error) {
	blob := testregistry.Synthetic{Seed: seed, Size: size}
	dgst := digest.FromString(fmt.Sprint(seed, size))
	if verified {
		var err error
		if dgst, err = digest.FromReader(io.NewSectionReader(blob, 0, size)); err != nil {
			return "", err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.blobs[dgst.String()] = blob
	return dgst, nil
}

// hold has GETs of the blobs wait until release.
func (o *origin) hold(dgsts ...digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range dgsts {
		o.held[d.String()] = true
	}
}

func (o *origin) release() { close(o.gate) }

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	o.mu.Lock()
	blob, ok := o.blobs[name]
	held := o.held[name]
	o.mu.Unlock()
	if !ok || path.Base(path.Dir(r.URL.Path)) != "blobs" {
		http.NotFound(w, r)
		return
	}
	if held && r.Method == http.MethodGet {
		o.asking.Add(1)
		defer o.asking.Add(-1)
		select {
		case <-o.gate:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", name)
	http.ServeContent(counting{w, &o.sent}, r, "", time.Time{}, io.NewSectionReader(blob, 0, blob.Size))
}
