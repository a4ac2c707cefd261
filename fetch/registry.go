package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// octets is what a registry calls a blob whose kind it does not know.
const octets = "application/octet-stream"

// maxManifest bounds a manifest, as registries do (distribution-spec v1.1,
// "Pushing Manifests").
const maxManifest = 4 << 20

// manifestTypes are what a manifest may be.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}

func isManifest(mediaType string) bool {
	return slices.Contains(manifestTypes, mediaType) || strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.v1+")
}

// A registry is a remote that speaks the distribution spec.
type registry struct {
	to      endpoint
	keys    *keyring
	named   *http.Client // the registry itself
	bare    stranger     // for whom it redirects to
	targets targets
	etags   validators

	mu     sync.Mutex
	scheme string // "https" or "http", "" while it is not known; guarded by mu
}

func newRegistry(to endpoint, net *transport, opts *Options) *registry {
	r := &registry{to: to}
	// A registry's redirects are followed by follow, a token server's by net/http.
	r.named = &http.Client{Transport: gated{net.watch.over(net.asks, to.Addr), net.gates}, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if via[0].URL.Host == to.Addr && strings.HasPrefix(via[0].URL.EscapedPath(), to.root()+"/") || isSession(via[0]) {
			return http.ErrUseLastResponse
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}}
	r.bare = newStranger(to.Addr, net, opts)
	if localName(to.Addr) {
		r.bare.client.Transport = r.named.Transport
	}
	if to.PlainHTTP {
		r.scheme = "http"
	}
	r.keys = newKeyring(to.Addr, r.named, opts)
	return r
}

// newStranger makes the client for those whom host names.
func newStranger(host string, net *transport, opts *Options) stranger {
	return stranger{&http.Client{Transport: gated{net.watch.over(net.bare, host), net.gates}, CheckRedirect: useLast}, opts.UserAgent}
}

// home is the registry's address, as far as its scheme is known.
func (r *registry) home() *url.URL {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &url.URL{Scheme: cmp.Or(r.scheme, "https"), Host: r.to.Addr}
}

func useLast(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Resolve asks for blobs first and for manifests on a 404, unless the accepted
// media types say which: a registry may answer 404 or 500 to the other kind.
func (r *registry) Resolve(ctx context.Context, ref locator.Reference, accept []string) (ocispec.Descriptor, error) {
	if ref.Digest == "" {
		return r.head(ctx, ref, "manifests", accept)
	}
	if len(accept) > 0 && isManifest(accept[0]) {
		return r.head(ctx, ref, "manifests", accept)
	}
	desc, err := r.head(ctx, ref, "blobs", nil)
	if len(accept) == 0 && errors.Is(err, iofs.ErrNotExist) {
		if desc, merr := r.head(ctx, ref, "manifests", nil); merr == nil || !errors.Is(merr, iofs.ErrNotExist) {
			return desc, merr
		}
	}
	return desc, err
}

// head asks for an object's size, type and digest. Where HEAD will not tell
// them, a GET does: of one byte of a blob, of all of a manifest. A 403 may be of the
// method, as where a signed URL is good for GET alone.
func (r *registry) head(ctx context.Context, ref locator.Reference, kind string, accept []string) (ocispec.Descriptor, error) {
	req, err := r.request(ctx, http.MethodHead, ref, kind, accept)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp, err := r.do(req, ref.Locator)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Method == http.MethodHead && e.Code == http.StatusForbidden {
		return r.byGet(ctx, ref, kind, accept)
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if desc, err := described(resp, ref, kind); err == nil {
			return desc, nil
		}
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusTooManyRequests:
		return ocispec.Descriptor{}, statusError(resp)
	}
	return r.byGet(ctx, ref, kind, accept)
}

// byGet is head where HEAD does not tell.
func (r *registry) byGet(ctx context.Context, ref locator.Reference, kind string, accept []string) (ocispec.Descriptor, error) {
	if kind == "blobs" {
		return r.peek(ctx, ref)
	}
	return r.readManifest(ctx, ref, accept)
}

// described reads a descriptor off an answer's header.
func described(resp *http.Response, ref locator.Reference, kind string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType(resp, kind), Digest: ref.Digest, Size: resp.ContentLength}
	if desc.Size < 0 {
		return desc, broken("%s: no Content-Length", resp.Request.URL.Redacted())
	}
	if desc.Digest == "" {
		dgst, err := locator.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
		if err != nil {
			return desc, broken("%s: Docker-Content-Digest: %v", resp.Request.URL.Redacted(), err)
		}
		desc.Digest = dgst
	}
	return desc, nil
}

// mediaType is a manifest's by its Content-Type. A blob's says nothing that
// could be relied on.
func mediaType(resp *http.Response, kind string) string {
	if kind == "blobs" {
		return octets
	}
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	t = strings.TrimSpace(t)
	if !plainType(t) {
		return octets
	}
	return t
}

// peek learns a blob's size by asking for its first byte.
func (r *registry) peek(ctx context.Context, ref locator.Reference) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: octets, Digest: ref.Digest}
	req, err := r.request(ctx, http.MethodGet, ref, "blobs", nil)
	if err != nil {
		return desc, err
	}
	req.Header.Set("Range", byteRange(0, 1))
	resp, err := r.do(req, ref.Locator)
	if err != nil {
		return desc, err
	}
	defer resp.Body.Close()
	desc.Size, err = sizeOf(resp)
	return desc, err
}

// sizeOf reads an object's size off the answer to a GET of its first byte.
func sizeOf(resp *http.Response) (size int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		size = resp.ContentLength
	case http.StatusPartialContent:
		_, _, size, err = contentRange(resp)
	case http.StatusRequestedRangeNotSatisfiable: // of what has no byte at all
		return 0, nil
	default:
		return 0, statusError(resp)
	}
	if err == nil && size < 0 {
		err = broken("%s: its size is not told", bareURL(resp.Request.URL))
	}
	return size, err
}

// readManifest learns what a manifest is by reading it.
func (r *registry) readManifest(ctx context.Context, ref locator.Reference, accept []string) (ocispec.Descriptor, error) {
	req, err := r.request(ctx, http.MethodGet, ref, "manifests", accept)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp, err := r.do(req, ref.Locator)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, statusError(resp)
	}
	if err := checkEncoding(resp); err != nil {
		return ocispec.Descriptor{}, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return ocispec.Descriptor{}, kind(ctx, fmt.Errorf("%s: %w", req.URL.Redacted(), err))
	}
	if len(b) > maxManifest {
		return ocispec.Descriptor{}, broken("%s: a manifest of more than %d bytes", req.URL.Redacted(), maxManifest)
	}
	desc := ocispec.Descriptor{MediaType: mediaType(resp, "manifests"), Digest: ref.Digest, Size: int64(len(b))}
	if desc.Digest != "" {
		return desc, nil
	}
	if !isManifest(desc.MediaType) { // a hotel's page, say
		return desc, broken("%s: %s is no manifest", req.URL.Redacted(), strconv.Quote(desc.MediaType))
	}
	desc.Digest = digest.FromBytes(b)
	return desc, nil
}

// Get asks for a range; for all of an object, or for a manifest, plainly.
func (r *registry) Get(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	ref := locator.Reference{Locator: loc, Digest: desc.Digest}
	kind := "blobs"
	var accept []string
	if isManifest(desc.MediaType) {
		kind, accept = "manifests", []string{desc.MediaType}
	}
	part := kind == "blobs" && (off > 0 || n < desc.Size)
	resp, err := r.ask(ctx, ref, kind, accept, part, off, n)
	if err != nil {
		return nil, err
	}
	return r.etags.body(ref.String(), resp, desc, part, off, n)
}

// byteRange asks for n bytes from off on.
func byteRange(off, n int64) string {
	return "bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)
}

// ask sends a GET to where the registry redirected the same object before,
// else to the registry.
func (r *registry) ask(ctx context.Context, ref locator.Reference, kind string, accept []string, part bool, off, n int64) (*http.Response, error) {
	req, err := r.request(ctx, http.MethodGet, ref, kind, accept)
	if err != nil {
		return nil, err
	}
	if part {
		req.Header.Set("Range", byteRange(off, n))
	}
	from := ref.String()
	if to := r.targets.get(from); to != nil {
		resp, err := r.bare.hop(req, to)
		if err == nil && resp.StatusCode < 300 {
			return resp, nil
		}
		// Its signature may have expired, or its host be gone: the registry knows.
		r.targets.drop(from)
		if err == nil {
			resp.Body.Close()
		} else if ctx.Err() != nil {
			return nil, err
		}
	}
	resp, err := r.do(req, ref.Locator)
	if err != nil {
		return nil, err
	}
	if to := resp.Request.URL; to.Host != req.URL.Host && resp.StatusCode < 300 {
		r.targets.put(from, to)
	}
	return resp, nil
}

// request makes a request for an object, by digest if it has one. Without
// accepted media types any manifest will do.
func (r *registry) request(ctx context.Context, method string, ref locator.Reference, kind string, accept []string) (*http.Request, error) {
	object := ref.Tag
	if ref.Digest != "" {
		object = ref.Digest.String()
	}
	ctx = r.scoped(ctx, ref.Path)
	req, err := http.NewRequestWithContext(ctx, method, r.home().String()+r.to.root()+"/"+ref.Path+"/"+kind+"/"+object, nil)
	if err != nil {
		return nil, err
	}
	r.to.address(req)
	req.Header.Set("Accept-Encoding", "identity")
	if kind == "manifests" {
		if len(accept) == 0 {
			accept = manifestTypes
		}
		req.Header.Set("Accept", strings.Join(accept, ", "))
	}
	return req, nil
}
