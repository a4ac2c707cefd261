package main

import (
	"context"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/fs"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var _ = fs.Source((*source)(nil))

// A source is a mount's: what the Fetcher tells and fetches, and what the
// store lists.
type source struct {
	*fetch.Fetcher
	store *content.Store
}

// Open opens an object. It hides that fetch returns a concrete type.
func (s *source) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	obj, err := s.Fetcher.Open(ctx, loc, desc)
	if err != nil {
		return nil, err
	}
	return obj, nil
}

// Repos returns the names below prefix of which the store holds something.
func (s *source) Repos(prefix string) ([]string, error) { return s.store.Repos(prefix) }

// Objects returns what loc's repository answered for.
func (s *source) Objects(loc locator.Locator) ([]ocispec.Descriptor, error) {
	return s.store.Objects(loc.String())
}

// Tags returns the tags of loc's repository as they were last seen.
func (s *source) Tags(loc locator.Locator) (map[string]ocispec.Descriptor, error) {
	return s.store.Tags(loc.String())
}

// Local returns how many bytes of the object are here, and when the whole was
// committed.
func (s *source) Local(loc locator.Locator, dgst digest.Digest) (n int64, committed time.Time) {
	n, info := s.Fetcher.Local(loc, dgst)
	return n, info.Committed
}

// StoreDir is where the store's files lie.
func (s *source) StoreDir() string { return s.store.Dir() }
