package fs

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

// diffIDs are the digests of the tars of an image's layers. The config that has them is
// read once for all layers: it may be as long as they are many.
type diffIDs struct {
	s      *server
	loc    locator.Locator
	config *ocispec.Descriptor // nil: there is none
	layers int

	reading flight[[]digest.Digest]
	mu      sync.Mutex
	ids     []digest.Digest // of no more than the layers; nil until they are read; guarded by mu
}

// of returns that of the i-th layer, "" where the config does not say it.
func (d *diffIDs) of(ctx context.Context, i int) (digest.Digest, error) {
	if d.config == nil || !image.IsConfig(d.config.MediaType) {
		return "", nil
	}
	ids := d.known()
	if ids == nil {
		var err error
		if ids, err = d.reading.do(ctx, &d.s.tasks, d.read); err != nil {
			return "", err
		}
	}
	if i >= len(ids) {
		return "", nil
	}
	return ids[i], nil
}

func (d *diffIDs) known() []digest.Digest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids
}

func (d *diffIDs) read(ctx context.Context) ([]digest.Digest, error) {
	if ids := d.known(); ids != nil {
		return ids, nil
	}
	config, err := d.s.readAll(ctx, objectKey{d.loc, d.config.Digest}, *d.config)
	if err != nil {
		return nil, err
	}
	all, err := image.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append([]digest.Digest{}, all[:min(len(all), d.layers)]...)
	return d.ids, nil
}
