package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A repairer fetches blobs again from where they came.
type repairer struct {
	p       *program
	store   *content.Store
	f       *fetch.Fetcher
	fetched map[digest.Digest]string // by whom it was sent
}

func (p *program) newRepairer(store *content.Store) *repairer {
	f := p.fetcher(store, fetch.Options{FillBelow: math.MaxInt64})
	return &repairer{p: p, store: store, f: f, fetched: make(map[digest.Digest]string)}
}

func (r *repairer) close() error { return r.f.Close() }

// fetchFor brings the blob dgst, which the image of that name lacks, into the
// store. Only the repository of its name is asked: what another one has, such as
// a private one, is not the image's because it says so. What was found bad was
// the image's, and comes back from wherever it came.
func (r *repairer) fetchFor(ctx context.Context, dgst digest.Digest, image string, wasBad bool) error {
	ref, err := r.p.hosts.ParseReference(image)
	if err == nil {
		_, err = r.fetch(ctx, dgst, ref.Locator)
	} else {
		err = errNobodyKnown // another tool's name, or none
	}
	if err == nil || !wasBad || ctx.Err() != nil {
		return err
	}
	if _, again := r.fetchAgain(ctx, dgst); again != nil {
		return errors.Join(err, again)
	}
	return nil
}

// fetchAgain brings the blob dgst, which was here and was found bad, back into
// the store, from a repository that answered for it.
func (r *repairer) fetchAgain(ctx context.Context, dgst digest.Digest) (from string, err error) {
	repos, err := r.store.Answered(dgst)
	if err != nil {
		return "", err
	}
	var places []locator.Locator
	for _, repo := range repos {
		if loc, err := r.p.hosts.ParseLocator(repo); err == nil && !slices.Contains(places, loc) {
			places = append(places, loc)
		}
	}
	return r.fetch(ctx, dgst, places...)
}

var errNobodyKnown = errors.New("no repository is known to have it")

// fetch fetches the blob dgst from the first of these that sends it, and says
// which that is.
func (r *repairer) fetch(ctx context.Context, dgst digest.Digest, places ...locator.Locator) (from string, err error) {
	if len(places) == 0 {
		return "", errNobodyKnown
	}
	var failed error
	for _, loc := range places {
		if err = r.fetchFrom(ctx, loc, dgst); err == nil {
			r.fetched[dgst] = loc.String()
			return loc.String(), nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return "", failed
}

func (r *repairer) fetchFrom(ctx context.Context, loc locator.Locator, dgst digest.Digest) error {
	obj, err := r.f.Open(ctx, loc, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		return fmt.Errorf("%s: %w", loc, err)
	}
	defer obj.Close()
	if err := obj.Verify(ctx); err != nil {
		return err
	}
	return obj.Commit(ctx)
}
