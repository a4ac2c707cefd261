package transfer

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is where containerd and docker put an image's full name.
const containerdName = "io.containerd.image.name"

// maxNames bounds the names in what is imported: for each it is written down
// what its image is made of.
const maxNames = 1_000

// ErrNoImage is that what was to be imported has none, or not the one that was
// asked for.
var ErrNoImage = errors.New("it has no image")

// An Import is what was brought into a store: its blobs are there, verified, and
// held until Release. That they are of these images is for the caller to write
// down before.
type Import struct {
	Images  []Imported
	Unnamed int // images that were passed over, for others have names

	store ArchiveStore
	label string                  // what is imported, for keys
	here  map[digest.Digest]int64 // the blobs that it brought along, and their sizes
	holds []func()
}

// An Imported is an image that is whole.
type Imported struct {
	Desc    ocispec.Descriptor   // with its platform, where it stands for an index of which not all is here
	Names   []string             // as they are written there; tags alone may be among them
	Beside  []ocispec.Descriptor // the further manifests of such an index, with their platforms
	Objects []ocispec.Descriptor // all that they are made of: type, digest and size
}

// Release lets the blobs go.
func (im *Import) Release() {
	for _, release := range im.holds {
		release()
	}
	im.holds = nil
}

func newImport(store ArchiveStore, label string) *Import {
	return &Import{store: store, label: label, here: make(map[digest.Digest]int64)}
}

// brought is a gathering's bring, of what came before.
func (im *Import) brought(_ context.Context, desc ocispec.Descriptor) error {
	size, ok := im.here[desc.Digest]
	if !ok {
		return fmt.Errorf("%s: %w there", desc.Digest, iofs.ErrNotExist)
	}
	if size != desc.Size {
		return fmt.Errorf("%s: %d bytes, and not %d as is said of it", desc.Digest, size, desc.Size)
	}
	return nil
}

// An offer is an image that an index.json lists, with all of its names there.
type offer struct {
	desc  ocispec.Descriptor
	names []string
}

// offers reads an index.json.
func offers(index []byte) ([]offer, error) {
	doc, err := image.Parse(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	var list []offer
	at := make(map[digest.Digest]int)
	of := make(map[string]digest.Digest)
	for _, desc := range doc.Manifests {
		names := namesOf(desc)
		i, ok := at[desc.Digest]
		if !ok {
			i, at[desc.Digest] = len(list), len(list)
			list = append(list, offer{desc: desc})
		}
		if was := list[i].desc.MediaType; was != desc.MediaType {
			return nil, fmt.Errorf("%s: %s is %.100q and %.100q", ocispec.ImageIndexFile, desc.Digest, was, desc.MediaType)
		}
		for _, name := range names {
			if other, ok := of[name]; ok && other != desc.Digest {
				return nil, fmt.Errorf("%s: %q names two images", ocispec.ImageIndexFile, name)
			}
			if len(of) == maxNames {
				return nil, fmt.Errorf("%s: more than %d names", ocispec.ImageIndexFile, maxNames)
			}
			if of[name] = desc.Digest; !slices.Contains(list[i].names, name) {
				list[i].names = append(list[i].names, name)
			}
		}
	}
	return list, nil
}

// namesOf is the name of an entry of index.json: its full one where there are
// two, as docker writes it with the tag alone beside it.
func namesOf(desc ocispec.Descriptor) []string {
	for _, key := range []string{containerdName, ocispec.AnnotationRefName} {
		if name := desc.Annotations[key]; name != "" {
			return []string{name}
		}
	}
	return nil
}

// take takes the images that are offered: those with a name, or all if none has
// one; of a pick that alone.
func (im *Import) take(ctx context.Context, list []offer, pick string, bring func(context.Context, ocispec.Descriptor) error) error {
	named := slices.ContainsFunc(list, func(o offer) bool { return len(o.names) > 0 })
	g := newGathering(im.store, bring)
	for _, o := range list {
		if pick != "" && !o.is(pick) {
			continue
		}
		if named && len(o.names) == 0 {
			im.Unnamed++
			continue
		}
		if pick != "" {
			o.names = []string{pick}
		}
		got, err := im.whole(ctx, o, g)
		if err != nil {
			return err
		}
		im.Images = append(im.Images, *got)
	}
	if len(im.Images) == 0 {
		if pick != "" {
			return fmt.Errorf("%w of the name %q", ErrNoImage, pick)
		}
		return ErrNoImage
	}
	return nil
}

// is says whether the offer goes by that name.
func (o *offer) is(name string) bool {
	return slices.Contains(o.names, name) || o.desc.Annotations[ocispec.AnnotationRefName] == name
}

// whole takes an image with all that it is made of; of an index of which not all
// is there, the manifests that are: the one for this machine first.
func (im *Import) whole(ctx context.Context, o offer, g *gathering) (*Imported, error) {
	if !image.IsManifest(o.desc.MediaType) {
		return nil, im.of(o, fmt.Errorf("it is of the type %.100q, and no manifest", o.desc.MediaType))
	}
	err := g.add(ctx, o.desc, 0)
	objects := g.next()
	if err == nil {
		return &Imported{Desc: o.desc, Names: o.names, Objects: objects}, nil
	}
	if !isMissing(err) || !image.IsIndex(o.desc.MediaType) || len(objects) == 0 {
		return nil, im.of(o, err)
	}
	doc, derr := readDocument(im.store, o.desc)
	if derr != nil {
		return nil, im.of(o, derr)
	}
	parts, perr := im.parts(ctx, doc, g)
	if perr != nil {
		return nil, im.of(o, perr)
	}
	if len(parts.Beside) == 0 {
		return nil, im.of(o, err)
	}
	parts.Names = o.names
	parts.lead(doc)
	return parts, nil
}

// parts takes what is whole of an index.
func (im *Import) parts(ctx context.Context, doc *image.Document, g *gathering) (*Imported, error) {
	p := &Imported{}
	for _, child := range doc.Manifests {
		n := len(g.objects)
		err := g.add(ctx, child, 1)
		if isMissing(err) {
			g.cut(n)
			continue
		}
		if err != nil {
			return nil, err
		}
		if image.IsManifest(child.MediaType) {
			p.Beside = append(p.Beside, child)
		}
	}
	p.Objects = g.next()
	return p, nil
}

// lead chooses among the parts the one that bears the name.
func (im *Imported) lead(doc *image.Document) {
	have := *doc
	have.Manifests = im.Beside
	first := im.Beside[0]
	if desc, err := have.Choose(image.HostPlatform()); err == nil {
		first = desc
	}
	im.Desc = first
	im.Beside = slices.DeleteFunc(im.Beside, func(d ocispec.Descriptor) bool { return d.Digest == first.Digest })
}

// of says of which image err is.
func (im *Import) of(o offer, err error) error {
	if len(o.names) > 0 {
		return fmt.Errorf("image %.200q: %w", o.names[0], err)
	}
	return fmt.Errorf("image %s: %w", o.desc.Digest, err)
}
