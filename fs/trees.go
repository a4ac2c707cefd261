package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"runtime"
	"strconv"
	"sync"

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
