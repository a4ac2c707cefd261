package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

// An imageDir is the directory of an image. Which image it is, its name says;
// what is in it, its manifest.
type imageDir struct {
	s     *server
	loc   locator.Locator
	name  locator.Name
	path  string
	asked flight[struct{}]

	referring flight[*linkTree]
}

var (
	_ = asker((*imageDir)(nil))
	_ = directory((*imageDir)(nil))
	_ = attributed((*imageDir)(nil))
)

// image returns an image's directory, by grammar alone. Offline its manifest
// must be here.
func (s *server) image(loc locator.Locator, name locator.Name, spelled string) (node, error) {
	if s.opts.Offline && !s.here(loc, name.Digest) {
		return nil, iofs.ErrNotExist
	}
	return &imageDir{s: s, loc: loc, name: name, path: spelled}, nil
}

func (d *imageDir) identity() identity { return identifyDirectory(d.path) }

func (d *imageDir) String() string { return d.path }

func (d *imageDir) xattr(name string) (string, error) { return d.s.xattr(d.loc, d.name.Digest, name) }

// attributes hold once the repository answered for the image's digest, or it is
// named by what was read, so that to stat what links in an image's directory lead
// to is no request.
func (d *imageDir) attributes() attributes {
	a := directoryAttributes(forever)
	if _, listed := d.s.images.listed.get(objectKey{d.loc, d.name.Digest}); !listed && d.s.hint(d.loc, d.name.Digest).Size < 0 {
		a.valid = 0
	}
	if d.s.opts.Offline {
		a.entry = offlineHolds
	}
	return a
}

// ask asks whether there is an object of the image's digest.
func (d *imageDir) ask(ctx context.Context) error {
	_, err := d.asked.do(ctx, &d.s.tasks, func(ctx context.Context) (struct{}, error) {
		hint := d.s.hint(d.loc, d.name.Digest)
		hint.Size = 0
		_, err := d.s.src.Stat(ctx, d.loc, hint)
		return struct{}{}, err
	})
	return err
}

// top returns the manifest or index that the directory is of. Who asks for it
// has entered the directory, which is listed from then on, under its plain name
// and where its repository lies.
func (d *imageDir) top(ctx context.Context) (*document, error) {
	top, err := d.s.document(ctx, d.loc, d.name.Digest)
	if err == nil {
		dir := path.Dir(d.loc.String())
		if d.s.visited.add(dir, d.name.Plain()) {
			d.s.lists.touch(dir)
		}
	}
	return top, err
}

// manifest returns the chosen platform's manifest, which is the object itself
// where that is no index.
func (d *imageDir) manifest(ctx context.Context) (*document, error) {
	top, err := d.top(ctx)
	if err != nil {
		return nil, err
	}
	if !top.Index {
		return top, nil
	}
	return d.s.choose(ctx, d.loc, top)
}

// maxNesting is how deep indexes may name indexes.
const maxNesting = 4

// choose follows an index to the chosen platform's manifest. The error is an
// *image.PlatformError if it has none.
func (s *server) choose(ctx context.Context, loc locator.Locator, doc *document) (*document, error) {
	for range maxNesting {
		desc, err := doc.Choose(s.platform())
		if err != nil {
			return nil, err
		}
		if doc, err = s.document(ctx, loc, desc.Digest); err != nil || !doc.Index {
			return doc, err
		}
	}
	return nil, fmt.Errorf("%s: an index in an index, more than %d deep: %w", doc.dgst, maxNesting, syscall.EIO)
}

// The names in an image's directory. The first three are links, whose targets
// may have to wait for a manifest; that they are names needs none.
const (
	indexName    = "index.json"
	manifestName = "manifest.json"
	configName   = "config.json"
	layersName   = "layers"
	rootfsName   = "rootfs"

	platformsName = "platforms"
	filesName     = "files"
	referrersName = "referrers"
)

func (d *imageDir) lookup(ctx context.Context, name string) (node, error) {
	switch name {
	case indexName, manifestName, configName:
		return newImageLink(d, name), nil
	case layersName:
		return &layersDir{d: d}, nil
	case rootfsName:
		return d.rootfs().begin(), nil
	case platformsName, filesName:
		dir := d.linkDir(name)
		switch tree, err := dir.tree(ctx); {
		case err != nil:
			return nil, err
		case tree.empty():
			return nil, errNotNamed
		}
		return dir, nil
	case referrersName:
		return d.linkDir(name), nil
	}
	return nil, errNever
}

// list tells referrers/ offline only: elsewhere a walk through it would have to
// ask who they are, again and again.
func (d *imageDir) list(ctx context.Context) ([]entry, error) {
	top, err := d.top(ctx)
	if err != nil {
		return nil, err
	}
	var entries []entry
	var kinds []string
	if top.Index {
		entries = append(entries, d.linkEntry(indexName))
		kinds = append(kinds, platformsName)
	}
	if d.s.opts.Offline {
		kinds = append(kinds, referrersName)
	}
	manifest, err := d.manifest(ctx)
	switch _, none := errors.AsType[*image.PlatformError](err); {
	case none: // and there is nothing of one image
	case err != nil:
		return nil, err
	default:
		entries = append(entries, d.linkEntry(manifestName))
		if manifest.Config != nil {
			entries = append(entries, d.linkEntry(configName))
		}
		entries = append(entries, directoryEntry(layersName, (&layersDir{d: d}).identity()))
		if manifest.IsImage() && d.s.indexed(d.loc, manifest) == len(manifest.Layers) {
			entries = append(entries, directoryEntry(rootfsName, d.rootfs().identity()))
		}
		kinds = append(kinds, filesName)
	}
	return d.appendLinkDirs(ctx, entries, kinds)
}

// appendLinkDirs appends those of these directories that have anything in them.
func (d *imageDir) appendLinkDirs(ctx context.Context, entries []entry, kinds []string) ([]entry, error) {
	for _, kind := range kinds {
		dir := d.linkDir(kind)
		tree, err := dir.tree(ctx)
		if err != nil {
			return nil, err
		}
		if !tree.empty() {
			entries = append(entries, directoryEntry(kind, dir.identity()))
		}
	}
	return entries, nil
}

func (d *imageDir) linkEntry(name string) entry {
	return entry{name: name, mode: syscall.S_IFLNK, ino: newImageLink(d, name).id.ino}
}

// blob is the path of an object of the image's repository, as it is spelled,
// from the directory that is depth levels below the image's. In a twin it is one.
func (d *imageDir) blob(depth int, dgst digest.Digest) string {
	object := locator.Name{Kind: locator.Object, Digest: dgst, Twin: d.name.Twin}
	return strings.Repeat("../", depth+1) + d.name.Repo + "/" + object.String()
}

// image is the path of another image of the repository, likewise.
func (d *imageDir) image(depth int, dgst digest.Digest) string {
	other := locator.Name{Kind: locator.Image, Repo: d.name.Repo, Digest: dgst, Twin: d.name.Twin}
	return strings.Repeat("../", depth+1) + other.String()
}

// here says whether what the directory of an image shows can be told from the
// store alone.
func (im *images) here(ctx context.Context, s *server, loc locator.Locator, dgst digest.Digest) bool {
	for range maxNesting {
		if !s.isWhole(loc, dgst) {
			return false
		}
		doc, err := s.document(ctx, loc, dgst)
		if err != nil || !doc.Index {
			return err == nil
		}
		desc, err := doc.Choose(s.platform())
		if err != nil {
			return true // and there is nothing but the index
		}
		dgst = desc.Digest
	}
	return false
}

// isWhole says whether reading the object asks nobody.
func (s *server) isWhole(loc locator.Locator, dgst digest.Digest) bool {
	_, known := s.src.Known(loc, dgst)
	_, committed := s.src.Local(loc, dgst)
	return known && !committed.IsZero()
}

func (s *server) platform() ocispec.Platform {
	if s.opts.Platform.OS == "" {
		return image.HostPlatform()
	}
	return s.opts.Platform
}
