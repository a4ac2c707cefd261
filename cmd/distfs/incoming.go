package main

import (
	"context"
	"io"
	"sync"

	"distfs/content"
	"distfs/fetch"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An incoming store is one that is imported into. It knows what is just written.
type incoming struct {
	*content.Store
	own bool // its keys are nobody else's, and of this run alone

	mu  sync.Mutex
	key string // guarded by mu
}

var _ transfer.ArchiveStore = (*incoming)(nil)

// WriteBlob is a transfer.ArchiveStore's.
func (in *incoming) WriteBlob(ctx context.Context, key string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	in.writes(key)
	defer in.writes("")
	desc, err := in.Store.WriteBlob(ctx, key, r, size, expected)
	if err != nil && in.own {
		_ = in.Abort(content.Expect{Ref: key}) // nobody will go on from it
	}
	return desc, err
}

func (in *incoming) writes(key string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.key = key
}

// active is what a control tells of.
func (in *incoming) active() []fetch.Progress {
	in.mu.Lock()
	key := in.key
	in.mu.Unlock()
	if key == "" {
		return nil
	}
	return underway(in.Store, key)
}
