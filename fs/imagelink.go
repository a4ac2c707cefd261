package fs

import (
	"context"
	iofs "io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"distfs/image"
)

// An imageLink is index.json, manifest.json or config.json. The link is there
// by grammar; where it leads to, and whether to anywhere, the manifest says.
type imageLink struct {
	d    *imageDir
	name string
	id   identity

	mu     sync.Mutex
	target string // "" until it is known; guarded by mu
}

var (
	_ = asker((*imageLink)(nil))
	_ = link((*imageLink)(nil))
)

func newImageLink(d *imageDir, name string) *imageLink {
	return &imageLink{d: d, name: name, id: identify("link", d.path, name)}
}

func (l *imageLink) identity() identity { return l.id }

func (l *imageLink) String() string { return l.d.path + "/" + l.name }

func (l *imageLink) attributes() attributes {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == "" {
		return attributes{mode: syscall.S_IFLNK | 0o777}
	}
	return linkAttributes(l.target, forever)
}

func (l *imageLink) ask(ctx context.Context) error {
	_, err := l.readlink(ctx)
	return err
}

func (l *imageLink) readlink(ctx context.Context) (string, error) {
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	if target != "" {
		return target, nil
	}
	target, err := l.find(ctx)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
	return target, nil
}

func (l *imageLink) find(ctx context.Context) (string, error) {
	if l.name == indexName {
		top, err := l.d.top(ctx)
		if err != nil {
			return "", err
		}
		if !top.Index {
			return "", iofs.ErrNotExist
		}
		return l.d.blob(0, top.dgst), nil
	}
	manifest, err := l.d.manifest(ctx)
	if err != nil {
		return "", err
	}
	if l.name == manifestName {
		return l.d.blob(0, manifest.dgst), nil
	}
	if manifest.Config == nil {
		return "", iofs.ErrNotExist
	}
	return l.d.blob(0, manifest.Config.Digest), nil
}

// A layersDir has a link to each layer, lowest first, and of an image of a file system
// the tree of each. Its names wait for the manifest: what a layer is called depends on
// its media type.
type layersDir struct {
	d        *imageDir
	complete atomic.Bool // all names were listed
}

var (
	_ = directory((*layersDir)(nil))
	_ = settledDir((*layersDir)(nil))
)

func (l *layersDir) identity() identity { return identifyDirectory(l.String()) }

func (l *layersDir) String() string { return l.d.path + "/" + layersName }

func (l *layersDir) settled() bool { return l.complete.Load() }

func (l *layersDir) attributes() attributes { return directoryAttributes(forever) }

func (l *layersDir) lookup(ctx context.Context, name string) (node, error) {
	manifest, err := l.d.manifest(ctx)
	if err != nil {
		return nil, err
	}
	number, suffix, _ := strings.Cut(name, ".")
	i, err := strconv.Atoi(number)
	switch {
	case err != nil || i < 0 || i >= len(manifest.Layers) || strconv.Itoa(i) != number:
		return nil, errNotNamed
	case suffix == "" && name == number && manifest.IsImage():
		return l.tree(manifest, i).begin(), nil
	case l.name(manifest, i) != name:
		return nil, errNotNamed
	}
	return l.link(manifest, i), nil
}

func (l *layersDir) list(ctx context.Context) ([]entry, error) {
	manifest, err := l.d.manifest(ctx)
	if err != nil {
		return nil, err
	}
	var entries []entry
	indexed := l.d.s.indexed(l.d.loc, manifest)
	for i := range manifest.Layers {
		link := l.link(manifest, i)
		entries = append(entries, entry{name: path.Base(link.path), mode: syscall.S_IFLNK, ino: link.id.ino})
		if i < indexed {
			entries = append(entries, directoryEntry(strconv.Itoa(i), l.tree(manifest, i).identity()))
		}
	}
	l.complete.Store(!manifest.IsImage() || indexed == len(manifest.Layers))
	return entries, nil
}

func (l *layersDir) name(manifest *document, i int) string {
	return image.LayerName(i, manifest.Layers[i].MediaType)
}

func (l *layersDir) link(manifest *document, i int) *plainLink {
	return newPlainLink(l.String()+"/"+l.name(manifest, i), l.d.blob(1, manifest.Layers[i].Digest))
}
