package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is taken of a foreign layer's urls, and for how many layers of a host
// what came of them is remembered.
const (
	maxURLs    = 16
	maxURL     = 2 << 10 // bytes
	maxForeign = 256
)

// isForeign says whether desc is a layer that registries may not hand out, and
// whose manifest says where else it lies (image-spec v1.1, layer.md,
// "Non-Distributable Layers").
func isForeign(desc ocispec.Descriptor) bool {
	return len(desc.URLs) > 0 && isForeignType(desc.MediaType)
}

func isForeignType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.tar")
}

// foreign is a host's remote that asks a foreign layer's urls where the host
// has no such blob: for no other media type, and after no other answer.
//
// A url is no more than a redirect that the host could have given: it is asked
// without credentials, never by HTTP where the host speaks HTTPS, and leads to
// no address that a redirect may not lead to. Its bytes are for readers of the
// same repository alone, until the digest matched.
// The repository has answered for the layer when its manifest named the urls,
// it said itself that it lacks the blob, and one of the urls has it in the size
// that the manifest says. The urls are asked in order, as equals: one that
// stalls, fails or lied makes room for the next.
type foreign struct {
	Remote
	host    string
	home    func() *url.URL // of whom the urls count as redirects
	bare    stranger
	watch   *watch
	timeout time.Duration

	mu    sync.Mutex
	known map[string]*whereabouts // by object; guarded by mu
}

// A whereabouts is what is known of one layer's urls.
type whereabouts struct {
	Remote
	size int64
	urls []string

	lacking bool // the host lacks the layer, and no url failed since it said so; guarded by foreign.mu
}

// newForeign adds to a host's remote the urls of foreign layers. itself is the
// host, or what stands for it, and net how it is reached.
func newForeign(host string, m, itself Remote, net *transport, opts *Options) *foreign {
	r := &foreign{Remote: m, host: host, watch: net.watch, timeout: opts.Timeout, known: make(map[string]*whereabouts)}
	if reg, ok := itself.(*registry); ok {
		r.home, r.bare = reg.home, reg.bare
	} else {
		r.home = func() *url.URL { return &url.URL{Scheme: "https", Host: "layout"} }
		r.bare = newStranger(host, net, opts)
	}
	return r
}

// Get opens a range where the host has it, else at one of desc's urls.
func (r *foreign) Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	return askForeign(ctx, r, loc, desc, func(from Remote) (*Body, error) { return from.Get(ctx, loc, desc, off, n) })
}

// resolveNamed is Resolve of a digest of which a manifest says what hint says.
func (r *foreign) resolveNamed(ctx context.Context, ref locator.Reference, hint ocispec.Descriptor, accept []string) (ocispec.Descriptor, error) {
	return askForeign(ctx, r, ref.Locator, hint, func(from Remote) (ocispec.Descriptor, error) { return from.Resolve(ctx, ref, accept) })
}

// askForeign asks the host, and then desc's urls if it has such and the host
// lacks the blob. While they serve the host is not asked again for each range.
func askForeign[T any](ctx context.Context, r *foreign, loc locator.Locator, desc ocispec.Descriptor, ask func(Remote) (T, error)) (T, error) {
	p := r.find(loc, desc)
	if p == nil {
		return ask(r.Remote)
	}
	if !r.isLacking(p) {
		v, err := ask(r.Remote)
		if !errors.Is(err, iofs.ErrNotExist) || ctx.Err() != nil {
			return v, err
		}
	}
	v, err := ask(p)
	r.setLacking(p, err == nil)
	if err != nil {
		return v, fmt.Errorf("%s lacks this layer; at its urls: %w", r.host, err)
	}
	return v, nil
}

func (r *foreign) isLacking(p *whereabouts) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.lacking
}

func (r *foreign) setLacking(p *whereabouts, lacking bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.lacking = lacking
}

// find returns desc's whereabouts, nil where nobody but the host is to be asked.
func (r *foreign) find(loc locator.Locator, desc ocispec.Descriptor) *whereabouts {
	if !isForeign(desc) {
		return nil
	}
	object := locator.Reference{Locator: loc, Digest: desc.Digest}.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	urls := desc.URLs[:min(len(desc.URLs), maxURLs)]
	if p := r.known[object]; p != nil && p.size == desc.Size && slices.Equal(p.urls, urls) {
		return p
	}
	var sources []*source
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || len(s) > maxURL || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			continue
		}
		sources = append(sources, &source{Remote: &elsewhere{of: r, at: u, size: desc.Size}, name: oneLine(bareURL(u)), can: canAll})
	}
	if len(sources) == 0 {
		return nil
	}
	if len(r.known) >= maxForeign {
		clear(r.known)
	}
	m := newMirrors(r.host, sources, r.timeout)
	m.equals = true
	p := &whereabouts{Remote: countedRemote{m, r.watch}, size: desc.Size, urls: slices.Clone(urls)}
	r.known[object] = p
	return p
}

// Distrust tells the urls that sent something of loc's dgst, else the host's sources.
func (r *foreign) Distrust(loc locator.Locator, dgst digest.Digest, from []string) (others bool) {
	r.mu.Lock()
	asked := r.Remote
	if p := r.known[locator.Reference{Locator: loc, Digest: dgst}.String()]; p != nil && p.lacking {
		asked = p.Remote
	}
	r.mu.Unlock()
	d, ok := asked.(distruster)
	return ok && d.Distrust(loc, dgst, from)
}
