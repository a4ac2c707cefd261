package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

const (
	// documentBudget is for how many bytes of manifests and indexes, as they
	// are written, what was read from them is remembered.
	documentBudget = 2 * image.MaxBytes
	// hintBudget is of how many objects the size is remembered that a
	// manifest, an index or a tag told.
	hintBudget = 1 << 14
)

// images is what is known of images: the manifests that were read, and what
// these say of other objects.
type images struct {
	documents *recent[objectKey, *document]
	hints     *recent[objectKey, ocispec.Descriptor]
	trees     *recent[objectKey, *linkTree]      // platforms/ of an index, files/ of a manifest
	referred  *recent[objectKey, referred]       // what refers to them
	listed    *recent[objectKey, bool]           // that something was listed as a referrer
	subjects  *recent[locator.Locator, subjects] // what refers to what in a repository in the store

	mu      sync.Mutex
	flights map[objectKey]*reading // under way; guarded by mu
}

// A document is a manifest or an index that was read and whose digest matched.
type document struct {
	*image.Document
	dgst digest.Digest
}

// A reading is a document on its way, for all who wait for it.
type reading struct {
	flight flight[*document]
	users  int // guarded by images.mu
}

// learn remembers what is said of an object elsewhere than in its bytes: its
// size and type, and nothing else that a manifest may hang on a descriptor.
// Listings have it from then on, and no longer what was forgotten for it.
func (s *server) learn(loc locator.Locator, desc ocispec.Descriptor) {
	if desc.Size <= 0 {
		return
	}
	k, hints := objectKey{loc, desc.Digest}, s.images.hints
	forgets := hints.forgets()
	_, old := hints.get(k)
	hints.put(k, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, 1)
	switch {
	case hints.forgets() != forgets:
		s.lists.change(nil)
	case !old:
		s.lists.touch(loc.String())
	}
}

// document returns the manifest or index of that digest, read if need be.
func (s *server) document(ctx context.Context, loc locator.Locator, dgst digest.Digest) (*document, error) {
	k := objectKey{loc, dgst}
	if doc, ok := s.images.documents.get(k); ok {
		return doc, nil
	}
	r := s.images.join(k)
	defer s.images.leave(k, r)
	return r.flight.do(ctx, &s.tasks, func(ctx context.Context) (*document, error) {
		return s.readDocument(ctx, k)
	})
}

func (im *images) join(k objectKey) *reading {
	im.mu.Lock()
	defer im.mu.Unlock()
	r := im.flights[k]
	if r == nil {
		if im.flights == nil {
			im.flights = make(map[objectKey]*reading)
		}
		r = &reading{}
		im.flights[k] = r
	}
	r.users++
	return r
}

func (im *images) leave(k objectKey, r *reading) {
	im.mu.Lock()
	defer im.mu.Unlock()
	r.users--
	if r.users == 0 {
		delete(im.flights, k)
	}
}

func (s *server) readDocument(ctx context.Context, k objectKey) (*document, error) {
	desc, ok := s.src.Known(k.loc, k.dgst)
	if !ok {
		hint, _ := s.images.hints.get(k)
		hint.Digest = k.dgst
		var err error
		if desc, err = s.src.Stat(ctx, k.loc, hint); err != nil {
			return nil, err
		}
	}
	b, err := s.readAll(ctx, k, desc)
	if err != nil {
		return nil, err
	}
	parsed, err := image.Parse(desc.MediaType, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, syscall.EIO)
	}
	doc := &document{parsed, k.dgst}
	for desc := range parsed.Descriptors() {
		s.learn(k.loc, desc)
	}
	s.images.documents.put(k, doc, len(b))
	return doc, nil
}

// readAll returns all bytes of a small object, after its digest matched. It is
// looked at once more: what lies in the store for long can rot, and what is read
// from a document is remembered.
func (s *server) readAll(ctx context.Context, k objectKey, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > image.MaxBytes {
		return nil, fmt.Errorf("%s: %d bytes, a manifest has at most %d: %w", k.dgst, desc.Size, image.MaxBytes, syscall.EIO)
	}
	obj, err := s.src.Open(ctx, k.loc, desc)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	if err := obj.Verify(ctx); err != nil {
		return nil, err
	}
	b := make([]byte, obj.Size())
	n, err := obj.ReadAt(ctx, b, 0)
	if n == len(b) && (err == nil || errors.Is(err, io.EOF)) {
		if got := k.dgst.Algorithm().FromBytes(b); got != k.dgst {
			return nil, fmt.Errorf("%s: the store has bytes of the digest %s: distfs verify --repair mends it: %w", k.dgst, got, syscall.EIO)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%s: %d of %d bytes: %w", k.dgst, n, len(b), errors.Join(err, syscall.EIO))
}
