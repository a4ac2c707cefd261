package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ArchiveStore is what images are imported into and exported from.
// *content.Store is one.
type ArchiveStore interface {
	// WriteBlob takes what r reads. size is -1 and expected "" where they are not
	// known. key names the blob on its way in, and what an earlier call left of it.
	// What is in the store already need not be read. The error is syscall.EBUSY, and
	// nothing was read, while another writes under that key.
	WriteBlob(ctx context.Context, key string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error)
	// Blob opens a blob. The error is fs.ErrNotExist if the store does not have it.
	Blob(dgst digest.Digest) (*os.File, error)
	// Hold keeps a blob, that is there or is to come, until release is called.
	Hold(dgst digest.Digest) (release func(), err error)
}

// An Answerer is an ArchiveStore that knows which repositories answered for a blob.
type Answerer interface {
	ArchiveStore

	// Answered returns the repositories that did.
	Answered(dgst digest.Digest) ([]string, error)
}

const (
	// maxEntries bounds the entries of an archive.
	maxEntries = 100_000
	// maxObjects bounds the objects of all that is imported or exported at once.
	// One counts for each image that has it, and for each manifest that names it.
	maxObjects = 400_000
)

// readBlob reads a blob of the store of up to image.MaxBytes.
func readBlob(store ArchiveStore, dgst digest.Digest) ([]byte, error) {
	f, err := store.Blob(dgst)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, dgst.String())
}

// readBounded reads a document, of which errors say what.
func readBounded(r io.Reader, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, image.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(b) > image.MaxBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", what, image.MaxBytes)
	}
	return b, nil
}

// A gathering follows what images' manifests name, and lists it: each before
// what it names, once. What is a manifest at one place and something else at
// another is refused: in the list it would stand as the one, and what it names
// as the other would be missing.
type gathering struct {
	store ArchiveStore
	// bring sees to it that the blob is in the store and held, in that size. The
	// error is fs.ErrNotExist if it cannot be had.
	bring   func(context.Context, ocispec.Descriptor) error
	objects []ocispec.Descriptor // of the list that is being made
	listed  map[digest.Digest]bool
	types   map[digest.Digest]string               // of all that was listed ever
	named   map[digest.Digest][]ocispec.Descriptor // by manifest that was read: all that it names
	count   int                                    // of objects, as maxObjects has it
}

func newGathering(store ArchiveStore, bring func(context.Context, ocispec.Descriptor) error) *gathering {
	return &gathering{
		store: store, bring: bring, listed: make(map[digest.Digest]bool),
		types: make(map[digest.Digest]string), named: make(map[digest.Digest][]ocispec.Descriptor),
	}
}

// next begins another list, and returns the one that was made.
func (g *gathering) next() []ocispec.Descriptor {
	list := g.objects
	g.cut(0)
	g.objects = nil
	return list
}

// cut takes all but the first n off the list.
func (g *gathering) cut(n int) {
	for _, desc := range g.objects[n:] {
		delete(g.listed, desc.Digest)
	}
	g.objects = g.objects[:n]
}

// more counts n objects.
func (g *gathering) more(n int) error {
	if g.count += n; g.count > maxObjects {
		return fmt.Errorf("more than %d objects in all", maxObjects)
	}
	return nil
}

// add adds desc, which so many indexes stand above, and all that it names, but for
// the subject that it refers to.
func (g *gathering) add(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if err := errors.Join(ctx.Err(), g.agrees(desc)); err != nil {
		return err
	}
	if g.listed[desc.Digest] {
		return nil
	}
	if image.IsManifest(desc.MediaType) && depth > maxNesting {
		return errTooDeep(desc.Digest)
	}
	if err := g.more(1); err != nil {
		return err
	}
	err := g.bring(ctx, desc)
	if isMissing(err) && image.IsForeign(desc.MediaType) {
		return nil // an image is whole without it
	}
	if err != nil {
		return err
	}
	g.listed[desc.Digest] = true
	g.types[desc.Digest] = desc.MediaType
	g.objects = append(g.objects, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	if !image.IsManifest(desc.MediaType) {
		return nil
	}
	children, err := g.children(desc)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := g.add(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// agrees refuses a digest that is a manifest, and of another type elsewhere.
func (g *gathering) agrees(desc ocispec.Descriptor) error {
	was, ok := g.types[desc.Digest]
	if !ok || was == desc.MediaType || !image.IsManifest(was) && !image.IsManifest(desc.MediaType) {
		return nil
	}
	return fmt.Errorf("%s: it is named as %.100q and as %.100q", desc.Digest, was, desc.MediaType)
}

// A mention is of a digest under a media type.
type mention struct {
	digest    digest.Digest
	mediaType string
}

// children is what a manifest names, each once. It is read once.
func (g *gathering) children(desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if children, ok := g.named[desc.Digest]; ok {
		return children, nil
	}
	doc, err := readDocument(g.store, desc)
	if err != nil {
		return nil, err
	}
	doc.Subject = nil // it is referred to; a layer of its digest is a layer
	children := []ocispec.Descriptor{}
	seen := make(map[mention]bool)
	for child := range doc.Descriptors() {
		if at := (mention{child.Digest, child.MediaType}); !seen[at] {
			seen[at] = true
			children = append(children, ocispec.Descriptor{MediaType: child.MediaType, Digest: child.Digest, Size: child.Size})
		}
	}
	if err := g.more(len(children)); err != nil {
		return nil, err
	}
	g.named[desc.Digest] = children
	return children, nil
}

// readDocument reads a manifest or index of the store.
func readDocument(store ArchiveStore, desc ocispec.Descriptor) (*image.Document, error) {
	b, err := readBlob(store, desc.Digest)
	if err != nil {
		return nil, err
	}
	doc, err := image.Parse(desc.MediaType, b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return doc, nil
}

// isMissing says whether err is that an image lacks a part.
func isMissing(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // a reader of one call
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
