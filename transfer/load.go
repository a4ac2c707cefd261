package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A load is everything that an image is made of, each once, without foreign
// layers.
type load struct {
	blobs     []ocispec.Descriptor
	manifests []ocispec.Descriptor
	indexes   []ocispec.Descriptor // each behind those that it names

	sizes map[digest.Digest]int64 // of all
	known map[digest.Digest]bool  // the manifests and indexes
	sum   int64                   // of the sizes
	read  int64                   // bytes of manifests and indexes
}

// root is what was loaded.
func (l *load) root() ocispec.Descriptor {
	if n := len(l.indexes); n > 0 {
		return l.indexes[n-1]
	}
	return l.manifests[len(l.manifests)-1]
}

// load finds out what root is made of.
func (p *pushing) load(root ocispec.Descriptor) (*load, error) {
	l := &load{sizes: make(map[digest.Digest]int64), known: make(map[digest.Digest]bool)}
	if err := p.add(l, root, 0); err != nil {
		return nil, err
	}
	return l, nil
}

// add adds a manifest or index, after all that it names.
func (p *pushing) add(l *load, desc ocispec.Descriptor, depth int) error {
	if l.known[desc.Digest] {
		return l.count(desc)
	}
	if depth > maxNesting {
		return errTooDeep(desc.Digest)
	}
	desc, doc, err := p.document(desc)
	if err != nil {
		return err
	}
	if l.read += desc.Size; l.read > maxDocuments {
		return broken("the image's manifests have more than %d bytes together", maxDocuments)
	}
	l.known[desc.Digest] = true
	if !doc.Index {
		for _, blob := range append([]ocispec.Descriptor{*doc.Config}, doc.Layers...) {
			if err := p.addBlob(l, blob); err != nil {
				return err
			}
		}
		l.manifests = append(l.manifests, desc)
		return l.count(desc)
	}
	for _, one := range doc.Manifests {
		if image.IsManifest(one.MediaType) {
			err = p.add(l, one, depth+1)
		} else {
			err = p.addBlob(l, one)
		}
		if err != nil {
			return err
		}
	}
	l.indexes = append(l.indexes, desc)
	return l.count(desc)
}

func (p *pushing) addBlob(l *load, desc ocispec.Descriptor) error {
	if image.IsForeign(desc.MediaType) {
		return nil
	}
	_, known := l.sizes[desc.Digest]
	if err := l.count(desc); err != nil || known {
		return err
	}
	l.blobs = append(l.blobs, bare(desc))
	return p.hold(desc.Digest)
}

// count counts desc. One digest has one size.
func (l *load) count(desc ocispec.Descriptor) error {
	if size, known := l.sizes[desc.Digest]; known {
		if size != desc.Size {
			return broken("%s is said to have %d bytes, and %d", desc.Digest, size, desc.Size)
		}
		return nil
	}
	if len(l.sizes) == maxParts {
		return broken("the image is of more than %d objects", maxParts)
	}
	if desc.Size > math.MaxInt64-l.sum {
		return broken("the image has more than 2^63 bytes")
	}
	l.sizes[desc.Digest] = desc.Size
	l.sum += desc.Size
	return nil
}

// bare is desc without what can be many times the rest.
func bare(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform, ArtifactType: desc.ArtifactType}
}

// chosen follows an index to the manifest for the platform that is asked for.
func (p *pushing) chosen(root ocispec.Descriptor) (ocispec.Descriptor, error) {
	if p.opts.AllPlatforms {
		return root, nil
	}
	want := p.opts.Platform
	if want.OS == "" {
		want = image.HostPlatform()
	}
	for range maxNesting + 1 {
		desc, doc, err := p.document(root)
		switch {
		case err != nil:
			return root, err
		case !doc.Index && p.opts.Platform.OS == "": // nobody asked for one by name
			return desc, nil
		case !doc.Index:
			return desc, fits(p.src, desc, doc, want)
		}
		if p.done.Images == 0 {
			p.done.Images = images(doc)
		}
		if root, err = doc.Choose(want); err != nil {
			return root, fmt.Errorf("%s: %w", desc.Digest, err)
		}
	}
	return root, errTooDeep(root.Digest)
}

// images counts what an index has for platforms: no attestations.
func images(doc *image.Document) (n int) {
	for _, desc := range doc.Manifests {
		if image.IsManifest(desc.MediaType) && (desc.Platform == nil || desc.Platform.OS != "unknown") {
			n++
		}
	}
	return n
}

// fits refuses a manifest on a shelf that is for another platform by what names
// it, or else by its config.
func fits(shelf Shelf, desc ocispec.Descriptor, doc *image.Document, want ocispec.Platform) error {
	have, ok := platformOf(shelf, desc, doc)
	if !ok {
		return nil
	}
	if err := image.Fits(have, want); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return nil
}

// platformOf returns the platform of what is doc, nil if that is not known: what
// names it says so, or else its config, if that is on the shelf. ok is false
// where neither does.
func platformOf(shelf Shelf, desc ocispec.Descriptor, doc *image.Document) (p ocispec.Platform, ok bool) {
	if desc.Platform != nil {
		return *desc.Platform, true
	}
	if doc == nil || doc.Config == nil || !image.IsConfig(doc.Config.MediaType) {
		return p, false
	}
	f, err := shelf.Blob(doc.Config.Digest)
	if err != nil {
		return p, false
	}
	defer f.Close()
	b, err := readBounded(f, "")
	if err != nil || doc.Config.Digest.Algorithm().FromBytes(b) != doc.Config.Digest {
		return p, false
	}
	return image.ConfigPlatform(b)
}

// document reads a manifest or an index, and returns its descriptor with what it
// turned out to be.
func (p *pushing) document(desc ocispec.Descriptor) (ocispec.Descriptor, *image.Document, error) {
	if err := p.hold(desc.Digest); err != nil {
		return desc, nil, err
	}
	b, err := p.read(desc)
	if err != nil {
		return desc, nil, err
	}
	doc, err := image.Parse(desc.MediaType, b)
	if err != nil {
		return desc, nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	desc = bare(desc)
	desc.MediaType, desc.Size = doc.MediaType, int64(len(b))
	desc.ArtifactType = cmp.Or(doc.ArtifactType, desc.ArtifactType)
	return desc, doc, nil
}

// read reads a manifest or an index, and holds it against its digest. A size of 0
// is one that is not known.
func (p *pushing) read(desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > image.MaxBytes {
		return nil, broken("%s: a manifest of %d bytes, at most %d are read", desc.Digest, desc.Size, image.MaxBytes)
	}
	f, err := p.src.Blob(desc.Digest)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, &AbsentError{desc, "not here"}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, image.MaxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	case len(b) > image.MaxBytes:
		return nil, broken("%s: a manifest of more than %d bytes", desc.Digest, image.MaxBytes)
	case desc.Size != 0 && int64(len(b)) != desc.Size:
		return nil, broken("%s has %d bytes here, and %d by what names it", desc.Digest, len(b), desc.Size)
	case desc.Digest.Algorithm().FromBytes(b) != desc.Digest:
		return nil, broken("%s: its bytes have another digest", desc.Digest)
	}
	return b, nil
}
