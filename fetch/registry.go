package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
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
	to      locator.Remote
	keys    *keyring
	named   *http.Client // the registry itself
	bare    *http.Client // whom it redirects to: without credentials
	targets targets

	mu     sync.Mutex
	scheme string // "https" or "http", "" while it is not known; guarded by mu
}

func newRegistry(to locator.Remote, net *transport, opts *Options) *registry {
	r := &registry{to: to}
	// A registry's redirects are followed by follow, a token server's by net/http.
	r.named = &http.Client{Transport: net.named, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if via[0].URL.Host == to.Addr && strings.HasPrefix(via[0].URL.Path, "/v2/") {
			return http.ErrUseLastResponse
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}}
	r.bare = &http.Client{Transport: net.bare, CheckRedirect: useLast}
	if localName(to.Addr) {
		r.bare.Transport = net.named
	}
	if to.PlainHTTP {
		r.scheme = "http"
	}
	r.keys = newKeyring(to.Addr, r.named, opts)
	return r
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
// them, a GET does: of one byte of a blob, of all of a manifest.
func (r *registry) head(ctx context.Context, ref locator.Reference, kind string, accept []string) (ocispec.Descriptor, error) {
	req, err := r.request(ctx, http.MethodHead, ref, kind, accept)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp, err := r.do(req, ref.Locator)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if desc, err := described(resp, ref, kind); err == nil {
			return desc, nil
		}
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return ocispec.Descriptor{}, statusError(resp)
	}
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
	if len(t) > 255 || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
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
	req.Header.Set("Range", "bytes=0-0")
	resp, err := r.do(req, ref.Locator)
	if err != nil {
		return desc, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		desc.Size = resp.ContentLength
	case http.StatusPartialContent:
		_, _, desc.Size, err = contentRange(resp)
	case http.StatusRequestedRangeNotSatisfiable: // of what has no byte at all
		desc.Size = 0
	default:
		return desc, statusError(resp)
	}
	if err == nil && desc.Size < 0 {
		err = broken("%s: its size is told neither by HEAD nor by GET", req.URL.Redacted())
	}
	return desc, err
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
	body, err := checkBody(resp, desc, part, off, n)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return body, nil
}

// ask sends a GET to where the registry redirected the same object before,
// else to the registry.
func (r *registry) ask(ctx context.Context, ref locator.Reference, kind string, accept []string, part bool, off, n int64) (*http.Response, error) {
	req, err := r.request(ctx, http.MethodGet, ref, kind, accept)
	if err != nil {
		return nil, err
	}
	if part {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+n-1, 10))
	}
	from := ref.String()
	if to := r.targets.get(from); to != nil {
		resp, err := r.hop(req, to)
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
	r.mu.Lock()
	scheme := r.scheme
	r.mu.Unlock()
	if scheme == "" {
		scheme = "https"
	}
	ctx = auth.WithScopesForHost(ctx, r.to.Addr, auth.ScopeRepository(ref.Path, auth.ActionPull))
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://"+r.to.Addr+"/v2/"+ref.Path+"/"+kind+"/"+object, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if kind == "manifests" {
		if len(accept) == 0 {
			accept = manifestTypes
		}
		req.Header.Set("Accept", strings.Join(accept, ", "))
	}
	return req, nil
}

// do sends req with the credentials for loc and follows its redirects. A
// refusal is met once with fresh credentials, HTTPS that a loopback host does
// not speak once with HTTP.
func (r *registry) do(req *http.Request, loc locator.Locator) (*http.Response, error) {
	client, err := r.keys.client(loc)
	if err != nil {
		return nil, err
	}
	held := r.keys.holds(client)
	resp, err := r.send(client, req)
	if err == nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		if next := r.keys.renew(client, held, loc); next != nil {
			resp.Body.Close()
			resp, err = r.send(next, req)
		}
	}
	if err != nil {
		return nil, kind(req.Context(), trimURL(err))
	}
	return r.follow(req, resp)
}

// send sends req, and finds out whether a loopback host speaks HTTPS.
func (r *registry) send(client *auth.Client, req *http.Request) (*http.Response, error) {
	resp, err := client.Do(req)
	r.mu.Lock()
	if err == nil {
		r.scheme = req.URL.Scheme
	}
	fall := err != nil && r.to.Fallback && r.scheme != "https" && req.URL.Scheme == "https" &&
		(errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, syscall.ECONNREFUSED))
	r.mu.Unlock()
	if errors.Is(err, http.ErrSchemeMismatch) && !fall {
		err = fmt.Errorf("%w (if it is to be asked without TLS: plain_http = true for its [host.\"NAME\"] in the configuration)", err)
	}
	if !fall {
		return resp, err
	}
	req.URL.Scheme = "http"
	resp, err = client.Do(req)
	if err == nil {
		r.mu.Lock()
		r.scheme = "http"
		r.mu.Unlock()
	}
	return resp, err
}

// statusError is resp as an error. The body is left alone: it is the
// registry's own words.
func statusError(resp *http.Response) error {
	u := *resp.Request.URL
	u.RawQuery, u.User = "", nil
	return &StatusError{Method: resp.Request.Method, URL: u.String(), Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
}

// retryAfter reads a Retry-After: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.Atoi(s); err == nil {
		return max(0, time.Duration(min(n, 1<<20))*time.Second)
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
