package transfer

import (
	"context"
	"fmt"

	"distfs/image"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// FetchOptions regulate a Fetch. A nil *FetchOptions means the zero value.
type FetchOptions struct {
	Platforms    []ocispec.Platform // of an index, the images for these; none means the host's
	AllPlatforms bool               // of an index, all that it names

	// Other hears of the platform of an image that is in no index, if it is another
	// than the host's and none was asked for; nil is nobody.
	Other func(ocispec.Platform)

	// Referrers tells what refers to an object, and has that fetched too:
	// signatures, SBOMs, attestations. nil leaves it out.
	Referrers func(ctx context.Context, loc locator.Locator, dgst digest.Digest) ([]ocispec.Descriptor, error)

	Report Report // hears of each object; nil is nobody
}

// maxOpen is how many objects are fetched at a time. How many connections these
// may have is the Source's business.
const maxOpen = 8

// Fetch has everything of the image that ref names come into the store: its
// index, the manifests that opts choose, their configs and layers. When all of
// it is there the image is entered into index.json, and it returns what ref
// names. An index that has the name there keeps it: all of it came before. A ref
// to something that is no image has that object come into the store, without a
// name.
//
// What arrived before an error stays, and the next Fetch goes on from there.
// The error is an *image.PlatformError where an index has no such platform, or an
// image alone is for another one than each that was asked for, an *image.Error
// for a manifest that is wrong or too much, and syscall.EIO for bytes or a size
// that are not what they were said to be.
func Fetch(ctx context.Context, src Source, ref locator.Reference, opts *FetchOptions) (ocispec.Descriptor, error) {
	if opts == nil {
		opts = &FetchOptions{}
	}
	s := newSession(src, ref.Locator, opts.Report)
	defer s.close()
	top, err := s.resolve(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	images, err := s.gather(ctx, ref, top, opts)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	group, gctx := errgroup.WithContext(ctx)
	s.fetchAll(gctx, group, s.largestFirst())
	if err := group.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := s.tellOther(ctx, s.docs[top.Digest], opts); err != nil {
		return ocispec.Descriptor{}, err
	}
	return top, s.enter(ref, top, images)
}

// resolve asks what ref names. What is never read is not fetched either.
func (s *session) resolve(ctx context.Context, ref locator.Reference) (ocispec.Descriptor, error) {
	told := func(e Event) { s.saidOf(ref, e) }
	told(Event{State: Resolving})
	desc, err := s.src.Resolve(ctx, ref)
	if err != nil {
		return desc, err
	}
	if err := image.CheckType(desc.MediaType); err != nil {
		return desc, named(ref, err)
	}
	if ref.Digest == "" && !image.IsManifest(desc.MediaType) {
		return desc, named(ref, fmt.Errorf("it is of type %.255q, which is neither a manifest's nor an index's", desc.MediaType))
	}
	told(Event{Desc: desc, State: Waiting})
	return desc, nil
}

// gather reads what names what, so that s has everything that is to be fetched,
// and returns what is to stand in index.json.
func (s *session) gather(ctx context.Context, ref locator.Reference, top ocispec.Descriptor, opts *FetchOptions) ([]ocispec.Descriptor, error) {
	doc, err := s.top(ctx, top)
	if err != nil || doc == nil {
		return nil, err
	}
	var images []ocispec.Descriptor
	switch {
	case !doc.Index:
		images = []ocispec.Descriptor{doc.desc}
		if err := s.fits(ctx, ref, doc, opts.Platforms); err != nil {
			return nil, err
		}
	case opts.AllPlatforms:
		images = []ocispec.Descriptor{doc.desc}
		if err := s.everything(ctx, doc.Manifests); err != nil {
			return nil, err
		}
	default:
		if images, err = s.platforms(ctx, doc, opts.Platforms); err != nil {
			return nil, err
		}
	}
	var referrers []ocispec.Descriptor
	if opts.Referrers != nil {
		if referrers, err = s.referrers(ctx, doc, images, opts.Referrers); err != nil {
			return nil, err
		}
	}
	kept := false
	if doc.Index {
		if kept, err = s.has(ref, doc.desc); err != nil {
			return nil, err
		}
		if kept || s.whole(doc) {
			images = []ocispec.Descriptor{doc.desc}
		}
	}
	entries := s.name(ref, append(images, referrers...))
	if kept {
		entries = entries[1:]
	}
	return entries, nil
}

// fits refuses an image that is in no index and whose config names another
// platform than one of those that were asked for.
func (s *session) fits(ctx context.Context, ref locator.Reference, doc *document, platforms []ocispec.Platform) error {
	if len(platforms) == 0 {
		return nil // its config comes with the rest
	}
	have, ok, err := s.platformOf(ctx, doc)
	if err != nil || !ok {
		return err
	}
	for _, want := range platforms {
		if err := image.Fits(have, want); err != nil {
			return named(ref, err)
		}
	}
	return nil
}

// tellOther tells opts.Other of doc, whose config is here.
func (s *session) tellOther(ctx context.Context, doc *document, opts *FetchOptions) error {
	if opts.Other == nil || opts.AllPlatforms || len(opts.Platforms) > 0 || doc == nil || doc.Index {
		return nil
	}
	have, ok, err := s.platformOf(ctx, doc)
	if ok && image.Fits(have, image.HostPlatform()) != nil {
		opts.Other(have)
	}
	return err
}

// platformOf returns the platform that the config of an image is for, if it names
// one.
func (s *session) platformOf(ctx context.Context, doc *document) (p ocispec.Platform, ok bool, err error) {
	if !image.IsConfig(doc.Config.MediaType) || doc.Config.Size > maxConfig {
		return p, false, nil
	}
	b, err := s.readAll(ctx, s.parts[doc.Config.Digest])
	if err != nil {
		return p, false, err
	}
	p, ok = image.ConfigPlatform(b)
	return p, ok, nil
}

// has says whether ref is desc's name in index.json already: an index of which all
// is here, which no choice of platforms narrows.
func (s *session) has(ref locator.Reference, desc ocispec.Descriptor) (bool, error) {
	was, ok, err := s.src.Image(ref.String())
	return ok && was.Digest == desc.Digest, err
}

// platforms returns the images of doc that are for these platforms, each once.
func (s *session) platforms(ctx context.Context, doc *document, platforms []ocispec.Platform) ([]ocispec.Descriptor, error) {
	if len(platforms) == 0 {
		platforms = []ocispec.Platform{image.HostPlatform()}
	}
	var images []ocispec.Descriptor
	chosen := make(map[digest.Digest]bool)
	for _, p := range platforms {
		m, platform, err := s.choose(ctx, doc, p)
		if err != nil {
			return nil, err
		}
		if chosen[m.desc.Digest] {
			continue
		}
		chosen[m.desc.Digest] = true
		desc := m.desc
		desc.Platform = platform
		images = append(images, desc)
	}
	return images, nil
}

// name gives the first of images the name ref, and the others LOCATOR@DIGEST.
func (s *session) name(ref locator.Reference, images []ocispec.Descriptor) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	seen := make(map[string]bool)
	for i, desc := range images {
		name := ref.String()
		if i > 0 {
			name = locator.Reference{Locator: s.loc, Digest: desc.Digest}.String()
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		all = append(all, desc)
	}
	return all
}

// enter enters images into index.json, once everything of them is there. Then
// ref, which named top, is done.
func (s *session) enter(ref locator.Reference, top ocispec.Descriptor, images []ocispec.Descriptor) error {
	if len(images) > 0 {
		if err := s.src.SetImages(images...); err != nil {
			return err
		}
	}
	s.saidOf(ref, Event{Desc: top, State: Done, Offset: top.Size, Had: top.Size})
	return nil
}

// saidOf tells of what was asked for, but for what has no tag: that is told of
// as the object that it is.
func (s *session) saidOf(ref locator.Reference, e Event) {
	if ref.Tag == "" {
		return
	}
	e.Ref = ref.String()
	s.said(e)
}
