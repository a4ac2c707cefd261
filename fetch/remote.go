package fetch

import (
	"context"
	"fmt"
	"io"
	"sync"

	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Remote is where the content of repositories comes from. A further kind of
// remote is a file with its two methods and a line in newRemote.
type Remote interface {
	// Resolve tells what an object of loc is, moving none of its bytes where
	// that can be had. The object is ref's digest, else its tag. Of the answer
	// the size is exact and the digest of a tag is a hint, which reading the
	// bytes confirms. accept are the media types that will do, nil for all.
	// The error is iofs.ErrNotExist if loc has no such object.
	Resolve(ctx context.Context, ref locator.Reference, accept []string) (ocispec.Descriptor, error)

	// Get opens n bytes of desc from off on, n > 0. The body may begin earlier
	// and end elsewhere: it says where. Who called closes it.
	Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error)
}

// A Body is bytes of an object, from Offset on.
type Body struct {
	io.ReadCloser
	Offset int64  // where in the object it begins: 0 where the remote ignores ranges
	Len    int64  // how many bytes it has
	Whole  bool   // the remote was asked for a part and gave everything
	From   string // who sent it, for messages
}

// remotes makes the remote of each host once.
type remotes struct {
	hosts locator.Hosts
	opts  *Options
	net   *transport

	mu   sync.Mutex
	made map[string]Remote // by host; guarded by mu
}

func newRemotes(hosts locator.Hosts, opts *Options) *remotes {
	return &remotes{hosts: hosts, opts: opts, net: newTransport(opts), made: make(map[string]Remote)}
}

// of returns the remote that serves host.
func (r *remotes) of(host string) (Remote, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.made[host]; ok {
		return m, nil
	}
	m, err := newRemote(r.hosts.Remote(host), host, r.net, r.opts)
	if err != nil {
		return nil, err
	}
	r.made[host] = m
	return m, nil
}

func newRemote(to locator.Remote, host string, net *transport, opts *Options) (Remote, error) {
	switch to.Kind {
	case locator.Registry:
		return newRegistry(to, net, opts), nil
	case locator.Layouts:
		return layouts(to.Addr), nil
	}
	return nil, fmt.Errorf("host %q: no remote of kind %v", host, to.Kind)
}

func (r *remotes) close() { r.net.close() }
