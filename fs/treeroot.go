package fs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

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

// tree returns the tree of the i-th layer.
func (l *layersDir) tree(manifest *document, i int) *treeRoot {
	path := l.String() + "/" + strconv.Itoa(i)
	return newTreeRoot(l.d.s, path, func(context.Context) (*tree, error) {
		return l.d.s.layerTree(l.d.loc, manifest, i)
	})
}
