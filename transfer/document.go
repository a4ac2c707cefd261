package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"distfs/image"
	"distfs/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// maxNesting is how many indexes may stand above a manifest.
	maxNesting = 4
	// maxDocuments bounds the manifests and indexes of an image together, in bytes.
	maxDocuments = 32 << 20
)

// A document is a manifest or an index that was read.
type document struct {
	*image.Document
	desc ocispec.Descriptor // with the media type that it has
}

// A brokenError is an image that contradicts itself, or is too much.
type brokenError struct{ what string }

func broken(format string, args ...any) error { return &brokenError{fmt.Sprintf(format, args...)} }

func (e *brokenError) Error() string { return e.what }

// Is makes it syscall.EIO.
func (e *brokenError) Is(target error) bool { return target == syscall.EIO }

// top reads what was asked for. It is nil if that is neither a manifest nor an
// index: a registry's blob endpoint may have told of it, which knows no types.
func (s *session) top(ctx context.Context, desc ocispec.Descriptor) (*document, error) {
	known := image.IsManifest(desc.MediaType)
	if !known && desc.Size > image.MaxBytes {
		_, err := s.add(desc)
		return nil, err
	}
	doc, err := s.document(ctx, desc)
	if _, no := errors.AsType[*image.Error](err); no && !known {
		return nil, nil
	}
	return doc, err
}

// document reads a manifest or an index, and adds all that a manifest names.
func (s *session) document(ctx context.Context, desc ocispec.Descriptor) (*document, error) {
	if doc := s.docs[desc.Digest]; doc != nil {
		return doc, nil
	}
	p, err := s.addDocument(desc)
	if err != nil {
		return nil, err
	}
	return s.parse(ctx, p)
}

// addDocument makes desc a part that is to be read.
func (s *session) addDocument(desc ocispec.Descriptor) (*part, error) {
	if err := image.CheckType(desc.MediaType); err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if s.parts[desc.Digest] != nil {
		return s.addAs(desc, true)
	}
	switch {
	case desc.Size > image.MaxBytes:
		return nil, broken("%s: a manifest of %d bytes, at most %d are read", desc.Digest, desc.Size, image.MaxBytes)
	case desc.Size > maxDocuments-s.read:
		return nil, broken("the image's manifests have more than %d bytes together", maxDocuments)
	}
	s.read += desc.Size
	return s.addAs(desc, true)
}

func (s *session) parse(ctx context.Context, p *part) (*document, error) {
	b, err := s.readAll(ctx, p)
	if err != nil {
		return nil, err
	}
	read, err := image.Parse(p.desc.MediaType, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.ref, err)
	}
	doc := &document{slim(read), ocispec.Descriptor{MediaType: read.MediaType, Digest: p.desc.Digest, Size: p.desc.Size, ArtifactType: read.ArtifactType}}
	s.docs[p.desc.Digest] = doc
	if doc.Index {
		return doc, nil
	}
	return doc, s.addAll(append([]ocispec.Descriptor{*doc.Config}, doc.Layers...))
}

func (s *session) addAll(descs []ocispec.Descriptor) error {
	for _, desc := range descs {
		if _, err := s.add(desc); err != nil {
			return err
		}
	}
	return nil
}

// What BuildKit says of an attestation in the index that has it.
const (
	attestationType   = "vnd.docker.reference.type"
	attestationDigest = "vnd.docker.reference.digest"
)

// slim is doc without what nobody asks it for, which can be many times the rest.
func slim(doc *image.Document) *image.Document {
	doc.Annotations, doc.Subject = nil, nil
	for i := range doc.Manifests {
		desc := &doc.Manifests[i]
		desc.Annotations, desc.Data = only(desc.Annotations, attestationType, attestationDigest), nil
	}
	for i := range doc.Layers {
		desc := &doc.Layers[i]
		desc.Annotations, desc.Data = only(desc.Annotations, layer.AnnotationTOC), nil
	}
	if doc.Config != nil {
		doc.Config.Annotations, doc.Config.Data = nil, nil
	}
	return doc
}

// only returns the annotations of these keys, nil where there are none.
func only(annotations map[string]string, keys ...string) (kept map[string]string) {
	for _, key := range keys {
		if value, ok := annotations[key]; ok {
			if kept == nil {
				kept = make(map[string]string)
			}
			kept[key] = value
		}
	}
	return kept
}

// choose follows an index to the manifest for p, and returns it with the
// platform that the index says it is for.
func (s *session) choose(ctx context.Context, doc *document, p ocispec.Platform) (*document, *ocispec.Platform, error) {
	var platform *ocispec.Platform
	for range maxNesting {
		desc, err := doc.Choose(p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.parts[doc.desc.Digest].ref, err)
		}
		platform = desc.Platform
		if doc, err = s.document(ctx, desc); err != nil || !doc.Index {
			return doc, platform, err
		}
	}
	return nil, nil, errTooDeep(doc.desc.Digest)
}

func errTooDeep(dgst digest.Digest) error {
	return broken("%s: an index in an index, more than %d deep", dgst, maxNesting)
}

// everything adds descs, and all that is named by the manifests and indexes
// among them.
func (s *session) everything(ctx context.Context, descs []ocispec.Descriptor) error {
	for range maxNesting {
		docs, err := s.level(ctx, descs)
		if err != nil {
			return err
		}
		descs = nil
		for _, doc := range docs {
			descs = append(descs, doc.Manifests...)
		}
		if len(descs) == 0 {
			return nil
		}
	}
	return errTooDeep(descs[0].Digest)
}

// level adds descs, each once and all before any is fetched, and returns the
// documents among them that were not read before.
func (s *session) level(ctx context.Context, descs []ocispec.Descriptor) ([]*document, error) {
	var unread []*part
	added := make(map[digest.Digest]bool)
	for _, desc := range descs {
		if err := image.CheckType(desc.MediaType); err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Digest, err)
		}
		if !image.IsManifest(desc.MediaType) {
			if _, err := s.add(desc); err != nil {
				return nil, err
			}
			continue
		}
		p, err := s.addDocument(desc)
		if err != nil {
			return nil, err
		}
		if !added[desc.Digest] && s.docs[desc.Digest] == nil {
			added[desc.Digest] = true
			unread = append(unread, p)
		}
	}
	var docs []*document
	for some := range slices.Chunk(unread, maxOpen) {
		more, err := s.parseSome(ctx, some)
		if err != nil {
			return nil, err
		}
		docs = append(docs, more...)
	}
	return docs, nil
}

// parseSome fetches documents together, and reads one after the other: one that
// is hostile can take much memory.
func (s *session) parseSome(ctx context.Context, parts []*part) ([]*document, error) {
	group, gctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		group.Go(func() error {
			obj, done, err := s.use(gctx, p)
			if err != nil {
				return err
			}
			defer done()
			return obj.Verify(gctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	docs := make([]*document, len(parts))
	for i, p := range parts {
		var err error
		if docs[i], err = s.parse(ctx, p); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// whole says whether everything that an index names is among the parts: of what
// it names as a manifest all that this one names, which is known once it was read.
func (s *session) whole(index *document) bool {
	looked := make(map[digest.Digest]bool) // an index may name another many times, by way of others
	var whole func(*document) bool
	whole = func(doc *document) bool {
		for _, desc := range doc.Manifests {
			if s.parts[desc.Digest] == nil {
				return false
			}
			if !image.IsManifest(desc.MediaType) || looked[desc.Digest] {
				continue
			}
			looked[desc.Digest] = true
			if below := s.docs[desc.Digest]; below == nil || !whole(below) {
				return false
			}
		}
		return true
	}
	return whole(index)
}
