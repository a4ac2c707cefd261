package fetch

import (
	"context"
	"fmt"
	"io"
	"sync"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Remote is where the content of repositories comes from. A further kind of
// remote is a file with its four methods and a line in newSource.
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

	// ListTags calls yield for each name on a page of loc's list of tags, which
	// need not be a tag, and ends with its error if there is one. page is "" for
	// the first page and next for the one after. It reads no more than limit
	// bytes, says how many, and keeps none of them. The error is
	// iofs.ErrNotExist if there is no repository loc.
	ListTags(ctx context.Context, loc locator.Locator, page string, limit int64, yield func(name string) error) (next string, n int64, err error)

	// ListReferrers reads a page of the list of what refers to dgst in loc, which
	// is not checked. page is as for ListTags; it reads no more than limit bytes.
	// The error is errors.ErrUnsupported if the remote keeps no such list.
	ListReferrers(ctx context.Context, loc locator.Locator, dgst digest.Digest, page string, limit int64) (*ReferrerPage, error)
}

// A getter is of a Remote what a pull asks.
type getter interface {
	Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error)
}

// A Body is bytes of an object, from Offset on.
type Body struct {
	io.ReadCloser
	Offset int64  // where in the object it begins: 0 where the remote ignores ranges
	Len    int64  // how many bytes it has
	Whole  bool   // the remote was asked for a part and gave everything
	From   string // who sent it, for messages
	Source string // which of a remote's sources that was; "" where it has no choice
}

// remotes makes the remote of each host once.
type remotes struct {
	hosts locator.Hosts
	opts  *Options
	net   *transport

	making shared[Remote] // so that each is made once

	mu   sync.Mutex
	made map[string]Remote // by host; guarded by mu
	own  []*transport      // of hosts that are not reached as others are; guarded by mu
}

func newRemotes(hosts locator.Hosts, opts *Options) *remotes {
	return &remotes{hosts: hosts, opts: opts, net: newTransport(opts), made: make(map[string]Remote)}
}

// of returns the remote that serves host.
func (r *remotes) of(host string) (Remote, error) {
	if m := r.known(host); m != nil {
		return m, nil
	}
	// Not under the lock: it reads files, for which another host need not wait.
	return r.making.do(context.Background(), host, func() (Remote, error) {
		if m := r.known(host); m != nil {
			return m, nil
		}
		m, err := r.newRemote(locator.CanonicalHost(host))
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.made[host] = m
		return m, nil
	})
}

func (r *remotes) known(host string) Remote {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made[host]
}

// newRemote makes a host's remote of the endpoints that are configured for it.
func (r *remotes) newRemote(host string) (Remote, error) {
	list, err := r.endpoints(host)
	if err != nil {
		return nil, broken("host %q: %v", host, err) // a file that is missing is no missing object
	}
	sources, ways := make([]*source, len(list)), make([]*transport, len(list))
	for i := range list {
		if ways[i], err = r.reach(&list[i]); err != nil {
			return nil, broken("host %q: %v", host, err)
		}
		if sources[i], err = newSource(list[i], ways[i], r.opts); err != nil {
			return nil, broken("host %q: %v", host, err)
		}
	}
	r.keep(ways...)
	itself := sources[len(sources)-1].Remote
	all := itself
	if len(list) > 1 || list[0].ns != "" || list[0].can != canAll {
		all = newMirrors(host, sources, r.opts.Timeout)
	}
	return newForeign(host, countedRemote{all, r.net.watch}, itself, ways[len(ways)-1], r.opts), nil
}

// reach returns how e is reached: by the transport of all, or by one of its own,
// which is to be kept.
func (r *remotes) reach(e *endpoint) (*transport, error) {
	t, err := reach(e, r.opts)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return r.net, nil
	}
	t.gates, t.watch = r.net.gates, r.net.watch
	return t, nil
}

// keep has close close transports that are used from now on.
func (r *remotes) keep(used ...*transport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range used {
		if t != r.net {
			r.own = append(r.own, t)
		}
	}
}

func newSource(e endpoint, net *transport, opts *Options) (*source, error) {
	switch e.Kind {
	case locator.Registry:
		return &source{Remote: newRegistry(e, net, opts), name: e.Addr + e.Root, host: locator.CanonicalHost(e.Addr), can: e.can}, nil
	case locator.Layouts:
		return &source{Remote: layouts(e.Addr), name: e.Addr, can: e.can}, nil
	}
	return nil, fmt.Errorf("no remote of kind %v", e.Kind)
}

// endpoints are whom to ask for host's content, in order; the last is the host
// itself or what stands for it. What the configuration says of the host beats
// the folders of other programs.
func (r *remotes) endpoints(host string) ([]endpoint, error) {
	to := r.hosts.Remote(host)
	if _, ok := r.hosts[host]; !ok {
		list, err := hostFolder(r.opts.CertsDirs, host, to)
		if list != nil || err != nil {
			return list, err
		}
	}
	var list []endpoint
	for _, one := range append(to.Mirrors, to) {
		e := endpoint{Remote: one, can: canAll}
		e.standsIn(host)
		list = append(list, e)
	}
	return list, nil
}

func (r *remotes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.net.close()
	for _, t := range r.own {
		t.close()
	}
}
