package main

import (
	"context"
	"fmt"
	"slices"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkImages looks whether all is here that the images in index.json are made
// of.
func (v *verification) checkImages(ctx context.Context) error {
	images, err := v.store.Index()
	if err != nil { // nothing can tell whose blobs there are
		return v.found(finding{
			Name: ocispec.ImageIndexFile, State: "bad",
			Error: err.Error() + "; move it away, and fetch or import its images again: what is here of them stays",
		})
	}
	for _, m := range images {
		if err := v.checkImage(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) checkImage(ctx context.Context, m ocispec.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x, err := v.store.Extent(m)
	if err != nil {
		return err
	}
	f := finding{Name: imageName(m), Digest: m.Digest, State: "repaired"}
	if x.Blobs == 0 {
		f.State, f.Error = "bad", "index.json has no digest for it"
		return v.found(f)
	}
	if x.Cut {
		f.State, f.Error = "bad", fmt.Sprintf("it is of more than %d blobs", x.Blobs)
		return v.found(f)
	}
	if x.Absent == 0 {
		return nil
	}
	var failed error
	if v.repair != nil {
		if x, failed, err = v.complete(ctx, m, x); err != nil {
			return err
		}
	}
	if x.Absent > 0 {
		f.State, f.Missing = "partial", x.Missing
		f.Error = fmt.Sprintf("missing: %d, the first %s", x.Absent, x.Missing[0].Digest)
	}
	if failed != nil && x.Absent > 0 {
		f.Error += "; not repaired: " + failed.Error()
	}
	return v.found(f)
}

// complete fetches what an image lacks, again and again as long as what came
// names more, and returns what it is made of then. failed says why something is
// missing still.
func (v *verification) complete(ctx context.Context, m ocispec.Descriptor, x content.Extent) (_ content.Extent, failed, err error) {
	aside, err := v.store.Aside()
	if err != nil {
		return x, nil, err
	}
	tried := make(map[digest.Digest]bool)
	for again := true; again && x.Absent > 0; {
		again = false
		for _, desc := range x.Missing {
			if tried[desc.Digest] {
				continue
			}
			tried[desc.Digest] = true
			again = true
			if err := v.repair.fetchFor(ctx, desc.Digest, imageName(m), slices.Contains(aside, desc.Digest)); err != nil {
				failed = err // of the last
			}
			if err := ctx.Err(); err != nil {
				return x, nil, err
			}
		}
		if x, err = v.store.Extent(m); err != nil {
			return x, nil, err
		}
	}
	return x, failed, nil
}
