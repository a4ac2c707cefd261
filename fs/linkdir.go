package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

// A linkDir is a directory of links in an image's: platforms/, files/,
// referrers/, or one below these. Its names wait for what says them: the index,
// the manifest, or the list of referrers.
type linkDir struct {
	d     *imageDir
	kind  string                                   // platforms, files or referrers
	path  string                                   // below that; "" is that itself
	tree  func(context.Context) (*linkTree, error) // all of that
	to    locator.NameKind                         // what the links lead to: an Image or an Object
	entry time.Duration                            // for which a name in it holds
}

var _ = directory((*linkDir)(nil))

// linkDir is one of the three directories, whether there is one or not.
func (d *imageDir) linkDir(kind string) *linkDir {
	switch kind {
	case platformsName:
		return &linkDir{d: d, kind: kind, tree: d.platforms, to: locator.Image, entry: forever}
	case filesName:
		return &linkDir{d: d, kind: kind, tree: d.files, to: locator.Object, entry: forever}
	}
	return &linkDir{d: d, kind: kind, tree: d.referrers, to: locator.Image}
}

func (l *linkDir) identity() identity { return identifyDirectory(l.String()) }

func (l *linkDir) String() string { return join(l.d.path+"/"+l.kind, l.path) }

func (l *linkDir) attributes() attributes { return directoryAttributes(l.entry) }

func (l *linkDir) lookup(ctx context.Context, name string) (node, error) {
	all, err := l.tree(ctx)
	if err != nil {
		return nil, err
	}
	at := all.find(join(l.path, name))
	switch {
	case at == nil && l.entry == forever:
		return nil, errNotNamed
	case at == nil:
		return nil, iofs.ErrNotExist
	case at.to == "":
		below := *l
		below.path = join(l.path, name)
		return &below, nil
	}
	link := newPlainLink(l.String()+"/"+name, l.target(at))
	link.entry = l.entry
	return link, nil
}

// target is where a link in l leads.
func (l *linkDir) target(link *linkTree) string {
	depth := 1
	if l.path != "" {
		depth += 1 + strings.Count(l.path, "/")
	}
	if l.to == locator.Object {
		return l.d.blob(depth, link.to)
	}
	return l.d.image(depth, link.to)
}

func (l *linkDir) list(ctx context.Context) ([]entry, error) {
	all, err := l.tree(ctx)
	if err != nil {
		return nil, err
	}
	at := all.find(l.path)
	if at == nil {
		return nil, iofs.ErrNotExist
	}
	entries := make([]entry, 0, len(at.below))
	for _, name := range at.names() {
		if own := l.String() + "/" + name; at.below[name].to == "" {
			entries = append(entries, directoryEntry(name, identifyDirectory(own)))
		} else {
			entries = append(entries, entry{name: name, mode: syscall.S_IFLNK, ino: identifyLink(own).ino})
		}
	}
	return entries, nil
}

// platforms has the manifests of an index by their platforms. Those of an index
// in it are in that one's directory.
func (d *imageDir) platforms(ctx context.Context) (*linkTree, error) {
	top, err := d.top(ctx)
	if err != nil {
		return nil, err
	}
	k := objectKey{d.loc, top.dgst}
	if tree, ok := d.s.images.trees.get(k); ok {
		return tree, nil
	}
	tree := &linkTree{}
	for _, named := range top.ByPlatform() {
		tree.add(named.Name, named.Digest)
	}
	d.s.images.trees.put(k, tree, 1+len(top.Manifests))
	return tree, nil
}

// files has the layers of the manifest that have a title.
func (d *imageDir) files(ctx context.Context) (*linkTree, error) {
	manifest, err := d.manifest(ctx)
	if err != nil {
		return nil, err
	}
	k := objectKey{d.loc, manifest.dgst}
	if tree, ok := d.s.images.trees.get(k); ok {
		return tree, nil
	}
	tree, names, untitled := titled(manifest.Layers)
	if len(untitled) > 0 {
		d.s.log.Warn("files are named by their digests", "path", path.Join(d.path, filesName),
			"count", len(untitled), "err", bounded(reasons(untitled)))
	}
	d.s.images.trees.put(k, tree, 1+names)
	return tree, nil
}

// maxReasons is how many reasons one line of the log has.
const maxReasons = 8

// reasons are the first of errs, in one line, and how many more there are.
func reasons(errs []error) error {
	said := make([]string, 0, maxReasons+1)
	for _, err := range errs[:min(len(errs), maxReasons)] {
		said = append(said, err.Error())
	}
	if more := len(errs) - maxReasons; more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(said, "; "))
}

const (
	// maxTitleNames bounds the names in the titles of a manifest, all together.
	maxTitleNames = 1 << 16
	// treeBudget is how many names are remembered of platforms/ and files/, of all
	// images together.
	treeBudget = 2 * maxTitleNames
)

// titled returns the layers that have titles by these, and how many names there
// are at most. One whose title can't be a path, or is one that another has, is
// there by its digest, and an error says why.
func titled(layers []ocispec.Descriptor) (tree *linkTree, names int, untitled []error) {
	tree = &linkTree{}
	for _, desc := range layers {
		title, has := desc.Annotations[ocispec.AnnotationTitle]
		if !has {
			continue
		}
		err := image.CheckTitle(title)
		deep := 1 + strings.Count(title, "/")
		switch {
		case err != nil:
		case names+deep > maxTitleNames:
			err = fmt.Errorf("title %.80q: with those before it there are more than %d names", title, maxTitleNames)
		case !tree.add(title, desc.Digest):
			err = fmt.Errorf("title %.80q: another file, or a directory with one, has that name", title)
		default:
			names += deep
			continue
		}
		names++
		tree.add(string(desc.Digest), desc.Digest)
		untitled = append(untitled, fmt.Errorf("%s: %w", desc.Digest, err))
	}
	return tree, names, untitled
}
