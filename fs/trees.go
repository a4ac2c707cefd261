package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/layer"
	"distfs/locator"
)

// maxTrees is how many trees are remembered that nobody uses at present.
const maxTrees = 64

// trees are those that were looked into lately: there is one of an image, however
// often its directory is looked up.
type trees struct {
	mu     sync.Mutex
	recent *recent[treeKey, *tree]
}

// A treeKey is what a tree is of: an image, or one of its layers.
type treeKey struct {
	image objectKey
	layer int // -1 is all of them
}

// once returns the tree of an image or a layer, made if need be.
func (ts *trees) once(k treeKey, make func() *tree) *tree {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.recent.get(k)
	if !ok {
		t = make()
		ts.recent.put(k, t, 1)
	}
	return t
}

// A treeRoot is where a tree begins: rootfs, or layers/N. That it is there is told by
// grammar; what it is, by the manifest and the layers' indexes.
type treeRoot struct {
	s    *server
	path string
	id   identity
	find func(ctx context.Context) (*tree, error) // asks for what it is of
	only *imageDir                                // the image that is mounted alone, of that mount's root

	finding flight[*tree]
	asking  flight[struct{}]

	mu   sync.Mutex
	tree *tree    // nil until it is found; guarded by mu
	dir  *treeDir // the root itself, nil until its attributes are asked for; guarded by mu
}

var (
	_ = asker((*treeRoot)(nil))
	_ = directory((*treeRoot)(nil))
	_ = settledDir((*treeRoot)(nil))
	_ = attributed((*treeRoot)(nil))
	_ = listed((*treeRoot)(nil))
)

func newTreeRoot(s *server, path string, find func(context.Context) (*tree, error)) *treeRoot {
	return &treeRoot{s: s, path: path, id: identifyDirectory(path), find: find}
}

func (r *treeRoot) identity() identity { return r.id }

func (r *treeRoot) String() string { return r.path }

func (*treeRoot) settled() bool { return true }

func (r *treeRoot) attributes() attributes {
	if dir := r.itself(); dir != nil {
		return dir.attributes()
	}
	a := directoryAttributes(forever)
	a.valid = 0
	return a
}

// of says whether what is below depends on a layer.
func (r *treeRoot) of(l *layerFiles) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tree != nil && slices.Contains(r.tree.layers, l)
}

func (r *treeRoot) itself() *treeDir {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dir
}

// found returns the tree. It waits for the manifest.
func (r *treeRoot) found(ctx context.Context) (*tree, error) {
	r.mu.Lock()
	t := r.tree
	r.mu.Unlock()
	if t != nil {
		return t, nil
	}
	return r.finding.do(ctx, &r.s.tasks, func(ctx context.Context) (*tree, error) {
		t, err := r.find(ctx)
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tree = t
		}
		return t, err
	})
}

// ask waits for what the layers say of the root: all of them, often.
func (r *treeRoot) ask(ctx context.Context) error {
	_, err := r.asking.do(ctx, &r.s.tasks, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.askNow(ctx) })
	return err
}

func (r *treeRoot) askNow(ctx context.Context) error {
	t, err := r.found(ctx)
	if err != nil {
		return err
	}
	if err := t.bad(); err != nil {
		return err
	}
	f, err := t.files.Root(ctx)
	if err != nil {
		return err
	}
	n, err := t.node(ctx, f, "", r.path)
	if err != nil {
		return err
	}
	dir, ok := n.(*treeDir)
	if !ok {
		return fmt.Errorf("the root is no directory: %w", syscall.EIO)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dir = dir
	return nil
}

func (r *treeRoot) lookup(ctx context.Context, name string) (node, error) {
	t, err := r.found(ctx)
	if err != nil {
		return nil, err
	}
	return t.lookup(ctx, nil, r.path, name)
}

func (r *treeRoot) list(ctx context.Context) ([]entry, error) {
	t, err := r.found(ctx)
	if err != nil {
		return nil, err
	}
	return t.list(ctx, nil, r.path)
}

// xattr is that of the directory, but that the root of a mount of one image names
// the image.
func (r *treeRoot) xattr(name string) (string, error) {
	if r.only != nil && (name == "user.distfs.digest" || name == "user.distfs.mediatype" || name == "user.distfs.locator") {
		return r.only.xattr(name)
	}
	dir := r.itself()
	if dir == nil {
		return "", syscall.ENODATA
	}
	return dir.xattr(name)
}

func (r *treeRoot) xattrs() []string {
	if dir := r.itself(); dir != nil {
		return dir.xattrs()
	}
	return nil
}

// rootfs returns the merged tree of the chosen platform.
func (d *imageDir) rootfs() *treeRoot {
	path := join(d.path, rootfsName)
	return newTreeRoot(d.s, path, func(ctx context.Context) (*tree, error) {
		manifest, err := d.manifest(ctx)
		if err != nil {
			return nil, err
		}
		return d.s.imageTree(d.loc, manifest)
	})
}

// begin has the tree made, without waiting for it.
func (r *treeRoot) begin() *treeRoot {
	if r.s.quiet {
		return r
	}
	r.s.beside(func(ctx context.Context) {
		// Who waits for it hears of an error, and writes it into the log.
		if t, err := r.found(ctx); err == nil {
			t.beginAll(ctx)
		}
	})
	return r
}

// beside runs what nobody waits for, until the mount ends.
func (s *server) beside(run func(context.Context)) {
	s.tasks.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.tasks.Go(func() {
			select {
			case <-s.ended:
				cancel()
			case <-ctx.Done():
			}
		})
		run(ctx)
	})
}

// imageTree is the tree of a manifest's image.
func (s *server) imageTree(loc locator.Locator, manifest *document) (*tree, error) {
	if !manifest.IsImage() {
		return nil, fmt.Errorf("%s is no image of a file system: %w", manifest.dgst, iofs.ErrNotExist)
	}
	return s.trees.once(treeKey{objectKey{loc, manifest.dgst}, -1}, func() *tree {
		t := &tree{s: s, loc: loc, of: string(manifest.dgst), layers: make([]*layerFiles, len(manifest.Layers))}
		for i, desc := range manifest.Layers {
			t.layers[i] = s.layer(loc, desc, s.diffID(loc, manifest, i))
		}
		t.merged = image.NewTree(len(t.layers), func(ctx context.Context, i int) (*layer.Index, error) { return t.layers[i].get(ctx) })
		t.files = t.merged
		return t
	}), nil
}

// layerTree is the tree of the i-th layer of a manifest's image. It depends on the layers
// below, and so is of this image alone.
func (s *server) layerTree(loc locator.Locator, manifest *document, i int) (*tree, error) {
	whole, err := s.imageTree(loc, manifest)
	if err != nil {
		return nil, err
	}
	return s.trees.once(treeKey{objectKey{loc, manifest.dgst}, i}, func() *tree {
		return &tree{
			s: s, loc: loc, of: string(manifest.dgst) + "/" + strconv.Itoa(i), layers: whole.layers[:i+1], lower: true,
			merged: whole.merged, files: whole.merged.Lower(i),
		}
	}), nil
}

// beginAll has the layers' indexes made side by side, the uppermost first: it decides
// most. Of a layer's tree that is enough, often.
func (t *tree) beginAll(ctx context.Context) {
	places := make(chan struct{}, max(runtime.NumCPU(), 2))
	var made sync.WaitGroup
	defer made.Wait()
	lowest := 0
	if t.lower {
		lowest = len(t.layers) - 1
	}
	for i := len(t.layers) - 1; i >= lowest; i-- {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		made.Go(func() {
			defer func() { <-places }()
			_, _ = t.layers[i].get(ctx) // who waits for it hears of an error
		})
	}
}

// tree returns the tree of the i-th layer.
func (l *layersDir) tree(manifest *document, i int) *treeRoot {
	path := l.String() + "/" + strconv.Itoa(i)
	return newTreeRoot(l.d.s, path, func(context.Context) (*tree, error) {
		return l.d.s.layerTree(l.d.loc, manifest, i)
	})
}

// diffID returns what asks an image's config for the digest of a layer's tar.
func (s *server) diffID(loc locator.Locator, manifest *document, i int) func(context.Context) (digest.Digest, error) {
	return func(ctx context.Context) (digest.Digest, error) {
		if manifest.Config == nil || !image.IsConfig(manifest.Config.MediaType) {
			return "", nil
		}
		config, err := s.readAll(ctx, objectKey{loc, manifest.Config.Digest}, *manifest.Config)
		if err != nil {
			return "", err
		}
		ids, err := image.DiffIDs(config)
		if err != nil || i >= len(ids) {
			return "", err
		}
		return ids[i], nil
	}
}

// indexed says whether the trees of these layers can be shown without asking anybody:
// another repository's layer can have made the index, or another descriptor of it.
func (s *server) indexed(loc locator.Locator, layers []ocispec.Descriptor) bool {
	for _, desc := range layers {
		if _, known := s.src.Known(loc, desc.Digest); !known || !s.src.HasLayerIndex(desc.Digest, s.keptHead(desc)) {
			return false
		}
	}
	return true
}

// close lets go of the layers that are open.
func (ls *layers) close() {
	for _, l := range ls.recent.collect(func(layerKey) bool { return true }) {
		l.blob.object.end()
	}
}
