package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"distfs/image"
	"distfs/layer"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PullOptions regulate a Pull. A nil *PullOptions means the zero value.
type PullOptions struct {
	Platform ocispec.Platform       // of an index, the image for this one; without an OS it is the host's
	Other    func(ocispec.Platform) // as FetchOptions has it
	Unpack   UnpackOptions
	Report   Report // hears of each object; nil is nobody
}

// A Pulled is what Pull brought.
type Pulled struct {
	Desc   ocispec.Descriptor // what the reference names
	Losses Losses             // what the tree lacks
}

// Pull has the image that ref names come into the store as Fetch does, and
// unpacks its root file system into dir as an Unpacker does. The lowest layer is
// unpacked while it and those above it arrive. A layer counts when its digest
// matched, and that of its tar is the one which the image's config has.
//
// After an error the tree has a part of the image; the next Pull of it into dir
// makes it whole. Errors are those of Fetch and of Unpacker.Layer, and
// syscall.EIO for a tar that is another than the config says.
func Pull(ctx context.Context, src Source, ref locator.Reference, dir string, opts *PullOptions) (Pulled, error) {
	if opts == nil {
		opts = &PullOptions{}
	}
	s := newSession(src, ref.Locator, opts.Report)
	defer s.close()
	top, err := s.resolve(ctx, ref)
	if err != nil {
		return Pulled{}, err
	}
	fetch := &FetchOptions{Other: opts.Other}
	if opts.Platform.OS != "" {
		fetch.Platforms = []ocispec.Platform{opts.Platform}
	}
	img, images, err := s.image(ctx, ref, top, fetch)
	if err != nil {
		return Pulled{}, err
	}
	u, err := NewUnpacker(dir, &opts.Unpack)
	if err != nil {
		return Pulled{}, err
	}
	defer u.Close()
	group, gctx := errgroup.WithContext(ctx)
	s.fetchAll(gctx, group, s.all()) // what is unpacked first comes first
	group.Go(func() error { return s.unpack(gctx, u, img) })
	if err := group.Wait(); err != nil {
		return Pulled{}, err
	}
	if err := s.tellOther(ctx, s.docs[top.Digest], fetch); err != nil {
		return Pulled{}, err
	}
	return Pulled{top, u.Losses()}, s.enter(ref, top, images)
}

// image finds the one image that ref has for opts' one platform, and what is to stand
// of it in index.json.
func (s *session) image(ctx context.Context, ref locator.Reference, top ocispec.Descriptor, opts *FetchOptions) (*document, []ocispec.Descriptor, error) {
	images, err := s.gather(ctx, ref, top, opts)
	if err != nil {
		return nil, nil, err
	}
	for _, doc := range s.docs {
		if doc.Index { // but for these there is one alone
			continue
		}
		for _, desc := range doc.Layers {
			s.parts[desc.Digest].course.willUnpack()
		}
		return doc, images, named(ref, hasFiles(doc))
	}
	return nil, nil, named(ref, fmt.Errorf("%w: it is a blob", errNoFiles))
}

var errNoFiles = errors.New("no root file system")

// hasFiles refuses what has no file system.
func hasFiles(doc *document) error {
	if doc.Config.MediaType == ocispec.MediaTypeEmptyJSON {
		return fmt.Errorf("%w: it is an artifact of type %.255q", errNoFiles, doc.ArtifactType)
	}
	for i, desc := range doc.Layers {
		if !image.IsLayer(desc.MediaType) {
			return fmt.Errorf("%w: layer %d is of type %.255q", errNoFiles, i, desc.MediaType)
		}
	}
	return nil
}

// unpack unpacks the layers of img, lowest first, as they arrive.
func (s *session) unpack(ctx context.Context, u *Unpacker, img *document) error {
	diffIDs, err := s.diffIDs(ctx, img)
	if err != nil {
		return err
	}
	for i, desc := range img.Layers {
		part := s.parts[desc.Digest]
		if err := s.unpackLayer(ctx, u, part, diffIDs[i], desc.Annotations[layer.AnnotationTOC]); err != nil {
			return err
		}
	}
	return nil
}

// maxConfig bounds an image's config in bytes.
const maxConfig = image.MaxBytes

// diffIDs are the digests of the layers' tars, as the config of img has them.
func (s *session) diffIDs(ctx context.Context, img *document) ([]digest.Digest, error) {
	part := s.parts[img.Config.Digest]
	if part.desc.Size > maxConfig {
		return nil, broken("%s: a config of %d bytes, at most %d are read", part.ref, part.desc.Size, maxConfig)
	}
	b, err := s.readAll(ctx, part)
	if err != nil {
		return nil, err
	}
	ids, err := image.DiffIDs(b)
	if err != nil {
		return nil, broken("%s: the config: %v", part.ref, err)
	}
	if len(ids) != len(img.Layers) {
		return nil, broken("%s: the config has %d layers, and the manifest %d", part.ref, len(ids), len(img.Layers))
	}
	return ids, nil
}

func (s *session) unpackLayer(ctx context.Context, u *Unpacker, p *part, diffID digest.Digest, toc string) error {
	obj, done, err := s.use(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	p.course.unpack(0, false)
	err = u.LayerOf(ctx, &objectReader{ctx: ctx, obj: obj, size: p.desc.Size, course: &p.course}, diffID, toc)
	if !isLocal(err) {
		if bad := obj.Verify(ctx); bad != nil { // what is wrong with the tar is the lesser news
			return bad
		}
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", p.ref, err)
	}
	p.course.unpack(p.desc.Size, true)
	s.tell(p)
	return nil
}

// isLocal says whether err has nothing to do with the bytes of a layer.
func isLocal(err error) bool {
	for _, local := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}

// An objectReader reads an object from its beginning, for the time of one call.
type objectReader struct {
	ctx      context.Context //nolint:containedctx // io.Reader has none
	obj      Object
	at, size int64
	course   *course
}

func (r *objectReader) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), r.size-r.at)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	n, err := r.obj.ReadAt(r.ctx, b, r.at)
	r.at += int64(n)
	r.course.unpack(r.at, false)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, nil
}
