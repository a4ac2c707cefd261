package fetch

import (
	"context"
	iofs "io/fs"
	"net/http"
	"net/url"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An elsewhere is a remote of one layer at one url.
type elsewhere struct {
	of    *foreign
	at    *url.URL
	size  int64 // of the layer, as its manifest says; not above 0 where it is not known
	etags validators
}

// Resolve asks for one byte: a url may be signed for GET alone.
func (e *elsewhere) Resolve(ctx context.Context, ref locator.Reference, _ []string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: octets, Digest: ref.Digest}
	resp, err := e.ask(ctx, byteRange(0, 1))
	if err != nil {
		return desc, err
	}
	defer resp.Body.Close()
	desc.Size, err = sizeOf(resp)
	if err == nil && e.size > 0 && desc.Size != e.size {
		err = &sizeError{resp.Request.URL.Host, desc.Size, e.size}
	}
	return desc, err
}

// Get opens a range as of any registry.
func (e *elsewhere) Get(ctx context.Context, _ locator.Locator, desc ocispec.Descriptor, off, n int64) (*Body, error) {
	part, span := off > 0 || n < desc.Size, ""
	if part {
		span = byteRange(off, n)
	}
	resp, err := e.ask(ctx, span)
	if err != nil {
		return nil, err
	}
	return e.etags.body(desc.Digest.String(), resp, desc, part, off, n)
}

// ListTags finds none: here is no repository.
func (e *elsewhere) ListTags(context.Context, locator.Locator, string, int64, func(string) error) (string, int64, error) {
	return "", 0, iofs.ErrNotExist
}

// ListReferrers finds none: here is one layer.
func (e *elsewhere) ListReferrers(context.Context, locator.Locator, digest.Digest, string, int64) (*ReferrerPage, error) {
	return &ReferrerPage{}, nil
}

// ask goes to the url as if the host had redirected a request there.
func (e *elsewhere) ask(ctx context.Context, span string) (*http.Response, error) {
	home := e.of.home()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, home.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if span != "" {
		req.Header.Set("Range", span)
	}
	if err := checkHop(home, e.at); err != nil {
		return nil, err
	}
	resp, err := e.of.bare.hop(req, e.at)
	if err != nil {
		return nil, err
	}
	return e.of.bare.follow(req, resp)
}
