package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What the referrers of one object may be at most, on all pages together.
const (
	maxReferrers     = 10_000
	maxReferrerBytes = maxManifest
	maxReferrerPages = 1_000
)

// Referrers returns what refers to dgst in loc: signatures, SBOMs, attestations,
// with the artifact types and annotations that the list gives them. Which there
// are is the remote's word; each is known by its digest. What makes no sense in
// a list is left out.
//
// A registry is asked by the referrers API of distribution-spec v1.1. Where that
// is not spoken, which is any answer but an index, 401, 429 and 5xx, the index
// that the tag ALGORITHM-HEX names is read, and where there is none there is
// nothing: nil and no error. The error is syscall.EIO at 10,000 of them, at 4
// MiB or 1,000 pages, after a page with nothing new that leads to another, and
// where a page leads to another origin. Offline it is syscall.ENETUNREACH.
func (f *Fetcher) Referrers(ctx context.Context, loc locator.Locator, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	ref := locator.Reference{Locator: loc, Digest: dgst}
	if f.opts.Offline {
		return nil, &kindError{fmt.Errorf("referrers of %s: offline: who refers to it is not kept", ref), syscall.ENETUNREACH}
	}
	remote, err := f.remotes.of(loc.Host)
	if err != nil {
		return nil, err
	}
	list, err := f.listReferrers(ctx, remote, ref)
	if errors.Is(err, errors.ErrUnsupported) {
		list, err = f.taggedReferrers(ctx, ref)
	}
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", ref, err)
	}
	return list, nil
}

// An unlistedError is that a remote keeps no list of referrers.
type unlistedError struct{ err error }

func (e *unlistedError) Error() string { return "no list of referrers: " + e.err.Error() }
func (e *unlistedError) Unwrap() error { return e.err }

// Is makes it errors.ErrUnsupported.
func (e *unlistedError) Is(target error) bool { return target == errors.ErrUnsupported }

// A ReferrerPage is a page of a list as it came.
type ReferrerPage struct {
	List []ocispec.Descriptor
	Next string // the name of the next page; "" it is the last
	Read int64  // bytes
}

// listReferrers takes page after page.
func (f *Fetcher) listReferrers(ctx context.Context, remote Remote, ref locator.Reference) ([]ocispec.Descriptor, error) {
	l := referrers{known: make(map[digest.Digest]bool)}
	for name := ""; ; {
		var page *ReferrerPage
		err := f.persist(ctx, func(ctx context.Context) (err error) {
			page, err = remote.ListReferrers(ctx, ref.Locator, ref.Digest, name, maxReferrerBytes-l.read)
			return err
		})
		if err != nil {
			return nil, err
		}
		isNew, err := l.take(page)
		switch {
		case err != nil:
			return nil, err
		case page.Next == "":
			f.sayLeftOut(ref, &l)
			return l.list, nil
		case !isNew:
			return nil, broken("a page with nothing new leads to another one")
		}
		name = page.Next
	}
}

func (f *Fetcher) sayLeftOut(ref locator.Reference, l *referrers) {
	if l.leftOut > 0 {
		f.opts.Log.Warn("referrers left out: they make no sense", "reference", ref.String(), "count", l.leftOut)
	}
}

// A referrers is a list that is being taken.
type referrers struct {
	list    []ocispec.Descriptor
	known   map[digest.Digest]bool
	leftOut int
	pages   int
	read    int64 // bytes
}

// take takes a page, and says whether anything on it is new.
func (l *referrers) take(page *ReferrerPage) (isNew bool, err error) {
	if l.pages++; l.pages > maxReferrerPages {
		return false, broken("more than %d pages", maxReferrerPages)
	}
	if len(l.list)+l.leftOut+len(page.List) > maxReferrers {
		return false, broken("more than %d", maxReferrers)
	}
	l.read += page.Read
	for _, desc := range page.List {
		dgst, err := locator.ParseDigest(desc.Digest.String())
		if err != nil || desc.Size < 0 || desc.Size > maxManifest || desc.MediaType == "" || !plainType(desc.MediaType) {
			l.leftOut++
			continue
		}
		if l.known[dgst] {
			continue
		}
		l.known[dgst], isNew = true, true
		if !plainType(desc.ArtifactType) {
			desc.ArtifactType = ""
		}
		l.list = append(l.list, ocispec.Descriptor{
			MediaType: desc.MediaType, Digest: dgst, Size: desc.Size, ArtifactType: desc.ArtifactType, Annotations: desc.Annotations,
		})
	}
	return isNew, nil
}

// taggedReferrers reads the index that the tag scheme names (distribution-spec
// v1.1, "Referrers Tag Schema").
func (f *Fetcher) taggedReferrers(ctx context.Context, ref locator.Reference) ([]ocispec.Descriptor, error) {
	tagged := locator.Reference{Locator: ref.Locator, Tag: referrersTag(ref.Digest)}
	desc, err := f.ask(ctx, tagged, []string{ocispec.MediaTypeImageIndex}, ocispec.Descriptor{})
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case desc.MediaType != ocispec.MediaTypeImageIndex:
		return nil, broken("%s: %q is no index", tagged, desc.MediaType)
	case desc.Size > maxManifest:
		return nil, broken("%s: an index of more than %d bytes", tagged, maxManifest)
	}
	o, err := f.Open(ctx, ref.Locator, desc)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := o.Verify(ctx); err != nil {
		return nil, err
	}
	l := referrers{known: make(map[digest.Digest]bool)}
	page, err := readReferrers(&objectReader{ctx: ctx, o: o}, maxManifest)
	if err == nil {
		_, err = l.take(page)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tagged, err)
	}
	f.sayLeftOut(ref, &l)
	return l.list, nil
}

// referrersTag is the tag that stands for dgst's referrers.
func referrersTag(dgst digest.Digest) string {
	algorithm, encoded := dgst.Algorithm().String(), dgst.Encoded()
	return algorithm[:min(len(algorithm), 32)] + "-" + encoded[:min(len(encoded), 64)]
}

// An objectReader reads an object from its start.
type objectReader struct {
	ctx context.Context //nolint:containedctx // a reader of one call
	o   *Object
	off int64
}

func (r *objectReader) Read(b []byte) (int, error) {
	n, err := r.o.ReadAt(r.ctx, b, r.off)
	r.off += int64(n)
	return n, err
}
