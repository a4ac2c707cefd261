package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
	"slices"
	"syscall"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrDamaged is that a blob of the store has other bytes than it had.
var ErrDamaged = errors.New("it is damaged in the store")

// A Named is an image of the store and the name that it is exported under.
type Named struct {
	Name string             // the full reference; "" is none
	Desc ocispec.Descriptor // without a media type it is the one that its bytes tell
}

// String is what errors call it.
func (n Named) String() string { return cmp.Or(n.Name, n.Desc.Digest.String()) }

// An Export is images that are whole in a store, held until Release.
type Export struct {
	Report Report // hears of each object that is written; nil is nobody. To be set before

	store   ArchiveStore
	images  []Named
	objects []ocispec.Descriptor // of all of them, each once, in the order of the images
	holds   []func()
}

// NewExport looks up all that the images are made of. The error is
// fs.ErrNotExist, and names what, if one is not whole.
func NewExport(ctx context.Context, store ArchiveStore, images ...Named) (*Export, error) {
	e := &Export{store: store, images: slices.Clone(images)}
	g := newGathering(store, e.take)
	for i, one := range images {
		err := e.settleType(&e.images[i].Desc)
		if err == nil {
			err = g.add(ctx, e.images[i].Desc, 0)
		}
		if err != nil {
			e.Release()
			return nil, fmt.Errorf("image %s: %w", one, err)
		}
	}
	e.objects = g.next()
	return e, nil
}

// settleType finds out what kind of manifest is known by its digest alone.
func (e *Export) settleType(desc *ocispec.Descriptor) error {
	if desc.MediaType != "" {
		return nil
	}
	doc, err := readDocument(e.store, *desc)
	if err == nil {
		desc.MediaType = doc.MediaType
	}
	return err
}

// Release lets the images go.
func (e *Export) Release() {
	for _, release := range e.holds {
		release()
	}
	e.holds = nil
}

// take is a gathering's bring: nothing is brought, it is here. What is not for
// others to distribute does not go along, as with push.
func (e *Export) take(_ context.Context, desc ocispec.Descriptor) error {
	if image.IsForeign(desc.MediaType) {
		return fmt.Errorf("%s: %w", desc.Digest, iofs.ErrNotExist)
	}
	release, err := e.store.Hold(desc.Digest)
	if err != nil {
		return err
	}
	e.holds = append(e.holds, release)
	f, err := e.store.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = fmt.Errorf("%s: %d bytes, and not %d as is said of it", desc.Digest, info.Size(), desc.Size)
	}
	return err
}

// entries are the images as index.json has them. docker and containerd look for
// the full name in an annotation of their own.
func (e *Export) entries() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, one := range e.images {
		desc := ocispec.Descriptor{MediaType: one.Desc.MediaType, Digest: one.Desc.Digest, Size: one.Desc.Size, Platform: one.Desc.Platform}
		if one.Name != "" {
			desc.Annotations = map[string]string{ocispec.AnnotationRefName: one.Name, containerdName: one.Name}
		}
		list = append(list, desc)
	}
	return list
}

func (e *Export) index() ([]byte, error) {
	return json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: e.entries(),
	})
}

func blobName(dgst digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
}

// copyBlob writes a blob, and is an error if the store's bytes are not its own
// any more.
func (e *Export) copyBlob(ctx context.Context, w io.Writer, desc ocispec.Descriptor) error {
	f, err := e.store.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	v := desc.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(w, v), io.LimitReader(e.telling(contextReader{ctx, f}, desc), desc.Size))
	switch {
	case err != nil:
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	case n != desc.Size || !v.Verified():
		return fmt.Errorf("blob %s: %w", desc.Digest, ErrDamaged)
	}
	e.tell(desc, Done, desc.Size)
	return nil
}

func (e *Export) tell(desc ocispec.Descriptor, state State, at int64) {
	if e.Report != nil {
		e.Report(Event{Ref: desc.Digest.String(), Desc: desc, State: state, Offset: at})
	}
}

// telling is r, of which is told how much of desc was read.
func (e *Export) telling(r io.Reader, desc ocispec.Descriptor) io.Reader {
	e.tell(desc, Writing, 0)
	return &tellingReader{r, e, desc, 0}
}

type tellingReader struct {
	io.Reader
	e    *Export
	desc ocispec.Descriptor
	at   int64
}

func (r *tellingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.at += int64(n)
	r.e.tell(r.desc, Writing, r.at)
	return n, err
}

// A LayoutTarget is the OCI image layout that images are exported into.
// *content.Layout is one.
type LayoutTarget interface {
	// Has and Upload are as those of a Destination.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (mounted bool, err error)

	// Enter gives all images the names in their annotations, each in the place of
	// all others of its name.
	Enter(ctx context.Context, images ...ocispec.Descriptor) (already bool, err error)
}

// Layout writes the images into a layout. What is named there is whole at any
// time.
func (e *Export) Layout(ctx context.Context, to LayoutTarget) error {
	for _, desc := range e.objects {
		there, err := to.Has(ctx, desc)
		if err == nil && !there {
			err = e.upload(ctx, to, desc)
		}
		if err != nil {
			return err
		}
		e.tell(desc, Done, desc.Size)
	}
	_, err := to.Enter(ctx, e.entries()...)
	return err
}

func (e *Export) upload(ctx context.Context, to LayoutTarget, desc ocispec.Descriptor) error {
	f, err := e.store.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = to.Upload(ctx, desc, f, func(n int64) { e.tell(desc, Writing, n) })
	if errors.Is(err, syscall.EIO) { // of either side
		return cmp.Or(e.copyBlob(ctx, io.Discard, desc), err)
	}
	return err
}

// ForPlatform returns the manifest for a platform that the index desc of the
// store names. A manifest is returned itself, unless it is said to be for
// another platform. The error is an *image.PlatformError if there is none.
func ForPlatform(store ArchiveStore, desc ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	desc, doc, err := choose(store, desc, want)
	if err != nil {
		return desc, err
	}
	return desc, fits(store, desc, doc, want)
}

// PlatformOf returns the platform of a manifest of the store: what names it says
// so, or else its config, if that is there. ok is false where neither does.
func PlatformOf(store ArchiveStore, desc ocispec.Descriptor) (p ocispec.Platform, ok bool) {
	if desc.Platform != nil || image.IsIndex(desc.MediaType) {
		return platformOf(store, desc, nil)
	}
	doc, err := readDocument(store, desc)
	if err != nil {
		return p, false
	}
	return platformOf(store, desc, doc)
}

// choose follows an index to the manifest for a platform.
func choose(store ArchiveStore, desc ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, *image.Document, error) {
	for range maxNesting + 1 {
		doc, err := readDocument(store, desc)
		if err != nil || !doc.Index {
			return desc, doc, err
		}
		if desc, err = doc.Choose(want); err != nil {
			return desc, nil, err
		}
	}
	return desc, nil, errTooDeep(desc.Digest)
}
