package transfer

import (
	"context"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Source is where Fetch and Pull have content from, and the store that it
// comes into. It is safe for use by many goroutines.
type Source interface {
	// Resolve tells what ref names. Its errors name ref, as those of the other
	// methods name the object.
	Resolve(ctx context.Context, ref locator.Reference) (ocispec.Descriptor, error)

	// Open opens an object of loc's repository, and has all of it come into the
	// store. It waits for none of its bytes.
	Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (Object, error)

	// Answered has loc's repository answer for an object that came from
	// elsewhere, and does nothing where it has.
	Answered(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) error

	// Local returns how many bytes of an object are here.
	Local(loc locator.Locator, dgst digest.Digest) int64

	// Hold keeps an object from being evicted, until release.
	Hold(dgst digest.Digest) (release func(), err error)

	// Image returns what index.json has under a name; ok is false where it has none.
	Image(name string) (desc ocispec.Descriptor, ok bool, err error)

	// SetImages enters images into index.json, each in the place of what had its
	// name.
	SetImages(images ...ocispec.Descriptor) error
}

// An Object is an open object of a Source, safe for use by many goroutines.
type Object interface {
	// Descriptor has the size that the object has, whoever says what.
	Descriptor() ocispec.Descriptor

	// ReadAt waits until len(b) bytes from off on are here, and reads them; fewer
	// only at the object's end, with io.EOF. What it reads before Verify returned
	// nil may be anything.
	ReadAt(ctx context.Context, b []byte, off int64) (int, error)

	// Verify waits until all of it is here and its digest matched.
	Verify(ctx context.Context) error

	// Commit waits until it is in the store.
	Commit(ctx context.Context) error

	// Progress tells what happens to it, "" for nothing, and how many bytes of it
	// are here.
	Progress() (state State, here int64)

	Close() error
}
