package fs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

const (
	// referrersPatience is for how long the lists of one image may be waited for.
	referrersPatience = time.Minute
	// minReferrersHold is for how long one holds whatever TagTTL is, so that going
	// to a name in it asks once.
	minReferrersHold = time.Second

	// referrerBudget is of how many referrers it is remembered that they are there.
	referrerBudget = 1 << 15

	// otherType is where what has no proper type is.
	otherType = "other"
)

// A referred is what refers to an image, as it was found at some time.
type referred struct {
	tree  *linkTree // by type: application/vnd.x+json/sha256:…
	n     int       // how many
	asked time.Time
	stale bool // it was asked for again, to no avail, and the log says so
}

// referrers has what refers to the image: to the object that the directory is of
// and, where that is an index, to the chosen platform's manifest.
func (d *imageDir) referrers(ctx context.Context) (*linkTree, error) {
	last, ok := d.s.images.referred.get(objectKey{d.loc, d.name.Digest})
	if ok && time.Since(last.asked) < d.s.referrersHold() {
		return last.tree, nil
	}
	return d.referring.do(ctx, &d.s.tasks, func(ctx context.Context) (*linkTree, error) {
		return d.askReferrers(ctx, last)
	})
}

func (s *server) referrersHold() time.Duration {
	if s.opts.Offline {
		return offlineHolds
	}
	return max(s.opts.TagTTL, minReferrersHold)
}

// askReferrers finds out. What was found last, if anything, serves on if the
// remote can't say.
func (d *imageDir) askReferrers(ctx context.Context, last referred) (*linkTree, error) {
	ctx, cancel := context.WithTimeout(ctx, referrersPatience)
	defer cancel()
	now := referred{asked: time.Now()}
	found, err := d.findReferrers(ctx)
	switch {
	case err == nil:
		now.tree, now.n = byType(found), len(found)
	case last.tree == nil || errors.Is(ctx.Err(), context.Canceled):
		return nil, err
	default:
		if !last.stale {
			d.s.log.Warn("the last known list of referrers serves on", "path", d.path, "err", bounded(err))
		}
		now = referred{tree: last.tree, n: last.n, asked: now.asked.Add(staleHolds - d.s.referrersHold()), stale: true}
	}
	d.s.images.referred.put(objectKey{d.loc, d.name.Digest}, now, 1+now.n)
	return now.tree, nil
}

func (d *imageDir) findReferrers(ctx context.Context) ([]ocispec.Descriptor, error) {
	top, err := d.top(ctx)
	if err != nil {
		return nil, err
	}
	to := []digest.Digest{top.dgst}
	manifest, err := d.manifest(ctx)
	if _, none := errors.AsType[*image.PlatformError](err); err != nil && !none {
		return nil, err
	}
	if err == nil && manifest.dgst != top.dgst {
		to = append(to, manifest.dgst)
	}
	if d.s.opts.Offline {
		return d.s.storedReferrers(ctx, d.loc, to)
	}
	return d.s.listedReferrers(ctx, d.loc, to)
}

// listedReferrers are those that the repository lists, and the attestations that
// an index has of which is remembered what it says.
func (s *server) listedReferrers(ctx context.Context, loc locator.Locator, to []digest.Digest) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, dgst := range to {
		descs, err := s.src.Referrers(ctx, loc, dgst)
		if err != nil {
			return nil, err
		}
		for _, desc := range descs {
			s.images.listed.put(objectKey{loc, desc.Digest}, true, 1)
		}
		found = append(found, descs...)
	}
	for _, doc := range s.images.documents.collect(func(k objectKey) bool { return k.loc == loc }) {
		for of, desc := range doc.Attestations() {
			if slices.Contains(to, of) {
				found = append(found, desc)
			}
		}
	}
	return found, nil
}

// storedReferrers are those among the manifests and indexes that the store has of
// the repository.
func (s *server) storedReferrers(ctx context.Context, loc locator.Locator, to []digest.Digest) ([]ocispec.Descriptor, error) {
	of, err := s.subjects(ctx, loc)
	var found []ocispec.Descriptor
	for _, dgst := range to {
		found = append(found, of[dgst]...)
	}
	return found, err
}

// byType puts links to what was found under its types.
func byType(found []ocispec.Descriptor) *linkTree {
	tree, seen := &linkTree{}, make(map[digest.Digest]bool)
	for _, desc := range found {
		if seen[desc.Digest] {
			continue
		}
		seen[desc.Digest] = true
		under := desc.ArtifactType
		if !image.IsPlainType(under) || strings.HasPrefix(under, otherType+"/") {
			under = otherType
		}
		tree.add(under+"/"+string(desc.Digest), desc.Digest)
	}
	return tree
}
