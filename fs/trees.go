package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

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

// imageTree is the tree of a manifest's image. The error is syscall.EFBIG for one of too
// many layers, of which nothing is asked.
func (s *server) imageTree(loc locator.Locator, manifest *document) (*tree, error) {
	switch n := len(manifest.Layers); {
	case !manifest.IsImage():
		return nil, fmt.Errorf("%s is no image of a file system: %w", manifest.dgst, iofs.ErrNotExist)
	case n > image.MaxLayers:
		return nil, fmt.Errorf("%s has %d layers, of which no more than %d are shown as one tree: %w", manifest.dgst, n, image.MaxLayers, syscall.EFBIG)
	}
	return s.trees.once(treeKey{objectKey{loc, manifest.dgst}, -1}, func() *tree {
		t := &tree{s: s, loc: loc, of: string(manifest.dgst), layers: make([]*layerFiles, len(manifest.Layers))}
		tars := &diffIDs{s: s, loc: loc, config: manifest.Config, layers: len(manifest.Layers)}
		for i, desc := range manifest.Layers {
			t.layers[i] = s.layer(loc, desc, func(ctx context.Context) (digest.Digest, error) { return tars.of(ctx, i) })
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

// indexed returns how many of an image's layers, from the lowest up, have trees that can be
// shown without asking anybody: another repository's layer can have made the index, or
// another descriptor of it.
func (s *server) indexed(loc locator.Locator, manifest *document) int {
	if !manifest.IsImage() || len(manifest.Layers) > image.MaxLayers {
		return 0
	}
	for i, desc := range manifest.Layers {
		if _, known := s.src.Known(loc, desc.Digest); !known || !s.src.HasLayerIndex(desc.Digest, s.keptHead(desc)) {
			return i
		}
	}
	return len(manifest.Layers)
}
