package main

import (
	"context"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"sync"
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
	hosts locator.Hosts // as configured
	log   *slog.Logger

	adopting sync.Mutex
	adopted  os.FileInfo // of index.json, when it was last looked into; guarded by adopting
}

func newSource(f *fetch.Fetcher, store *content.Store, hosts locator.Hosts, log *slog.Logger) *source {
	s := &source{Fetcher: f, store: store, hosts: hosts, log: log}
	s.adopt()
	return s
}

// Open opens an object. It hides that fetch returns a concrete type.
func (s *source) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	obj, err := s.Fetcher.Open(ctx, loc, desc)
	if err != nil {
		return nil, err
	}
	return obj, nil
}

// OpenSparse opens an object of which no more is fetched than is read.
func (s *source) OpenSparse(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	obj, err := s.Fetcher.OpenSparse(ctx, loc, desc)
	if err != nil {
		return nil, err
	}
	return obj, nil
}

// OpenFile opens a file of a layer.
func (s *source) OpenFile(ctx context.Context, loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor, content fs.Content) (fs.Object, error) {
	obj, err := s.Fetcher.OpenFile(ctx, loc, layer, desc, content)
	if err != nil {
		return nil, err
	}
	return obj, nil
}

// Stream opens what parts of a layer decode to.
func (s *source) Stream(key digest.Digest) (fs.Stream, error) {
	st, err := s.Fetcher.Stream(key)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// NewStream keeps that.
func (s *source) NewStream(key digest.Digest) (fs.NewStream, error) {
	st, err := s.Fetcher.NewStream(key)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// LayerIndex is the index of a layer that the store keeps.
func (s *source) LayerIndex(dgst digest.Digest) ([]byte, error) { return s.store.LayerIndex(dgst) }

// HasLayerIndex says whether it keeps one that begins with head.
func (s *source) HasLayerIndex(dgst digest.Digest, head []byte) bool {
	return s.store.HasLayerIndex(dgst, head)
}

// KeepLayerIndex has it keep one.
func (s *source) KeepLayerIndex(dgst digest.Digest, write func(io.Writer) error) error {
	return s.store.KeepLayerIndex(dgst, write)
}

// DropLayerIndex has it keep none any more.
func (s *source) DropLayerIndex(dgst digest.Digest) error { return s.store.DropLayerIndex(dgst) }

// settle returns ref with its digest: what its tag is now, or offline was last.
func (s *source) settle(ctx context.Context, ref locator.Reference, offline bool) (locator.Reference, error) {
	if ref.Digest != "" {
		return ref, nil
	}
	if !offline {
		desc, err := s.Resolve(ctx, ref)
		ref.Digest = desc.Digest
		return ref, err
	}
	tags, err := s.Tags(ref.Locator)
	if err != nil {
		return ref, err
	}
	desc, ok := tags[ref.Tag]
	if n, committed := s.Local(ref.Locator, desc.Digest); !ok || n == 0 && committed.IsZero() {
		return ref, fmt.Errorf("%s: the store does not have it: %w", ref, iofs.ErrNotExist)
	}
	ref.Digest = desc.Digest
	return ref, nil
}

// Repos returns the names below prefix of which the store holds something.
func (s *source) Repos(prefix string) ([]string, error) {
	s.adopt()
	return s.store.Repos(prefix)
}

// Tags returns what loc's tags were when they were last seen.
func (s *source) Tags(loc locator.Locator) (map[string]ocispec.Descriptor, error) {
	s.adopt()
	return s.Fetcher.Tags(loc)
}

// Known is what loc's repository answered for dgst.
func (s *source) Known(loc locator.Locator, dgst digest.Digest) (ocispec.Descriptor, bool) {
	desc, ok := s.Fetcher.Known(loc, dgst)
	if ok {
		return desc, ok
	}
	s.adopt()
	return s.Fetcher.Known(loc, dgst)
}

// Objects returns the digests of what loc's repository answered for.
func (s *source) Objects(loc locator.Locator) ([]ocispec.Descriptor, error) {
	s.adopt()
	digests, err := s.store.ObjectDigests(loc.String())
	descs := make([]ocispec.Descriptor, len(digests))
	for i, dgst := range digests {
		descs[i].Digest = dgst
	}
	return descs, err
}

// Images returns what index.json names by a reference.
func (s *source) Images() ([]locator.Reference, error) {
	images, err := s.store.Images()
	var refs []locator.Reference
	for _, image := range images {
		if ref, ok := s.named(image); ok {
			refs = append(refs, ref)
		}
	}
	return refs, err
}

// named is the image of index.json by its name and its digest. False is for
// another tool's name: a tag alone, say, which is no reference in full.
func (s *source) named(image ocispec.Descriptor) (locator.Reference, bool) {
	ref, err := s.hosts.ParseReference(imageName(image))
	if err != nil || ref.String() != imageName(image) {
		return locator.Reference{}, false
	}
	ref.Digest, err = locator.ParseDigest(string(image.Digest))
	return ref, err == nil
}

// Watch watches the store. What was found bad there is bad to the Fetcher first.
func (s *source) Watch(changed func(prefixes []string), spoilt func(digest.Digest)) (fs.Watcher, error) {
	w, err := s.store.Watch(func(prefixes []string) {
		if len(prefixes) == 0 {
			s.adopt()
		}
		changed(prefixes)
	}, func(dgst digest.Digest) {
		s.Spoil(dgst)
		spoilt(dgst)
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Local returns how many bytes of the object are here, and when the whole was
// committed.
func (s *source) Local(loc locator.Locator, dgst digest.Digest) (n int64, committed time.Time) {
	n, info := s.Fetcher.Local(loc, dgst)
	return n, info.Committed
}

// Hold keeps a blob from being evicted.
func (s *source) Hold(dgst digest.Digest) (release func(), err error) { return s.store.Hold(dgst) }

// StoreDir is where the store's files lie.
func (s *source) StoreDir() string { return s.store.Dir() }
