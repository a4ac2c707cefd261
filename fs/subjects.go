package fs

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
	"distfs/locator"
)

// What is read of one repository in the store to learn what refers to what.
const (
	maxSubjects     = 1_000
	maxSubjectBytes = 32 << 20
)

// subjects are the manifests of a repository in the store that refer to another,
// by that one's digest, as they were at some time.
type subjects struct {
	of   map[digest.Digest][]ocispec.Descriptor
	read time.Time
}

// subjects reads the manifests and indexes that the store has of the repository,
// and asks nobody. Those that can't be read are none.
func (s *server) subjects(ctx context.Context, loc locator.Locator) (map[digest.Digest][]ocispec.Descriptor, error) {
	if last, ok := s.images.subjects.get(loc); ok && time.Since(last.read) < offlineHolds {
		return last.of, nil
	}
	objects, err := s.src.Objects(loc)
	if err != nil {
		return nil, err
	}
	now := subjects{of: make(map[digest.Digest][]ocispec.Descriptor), read: time.Now()}
	cost, n, size := 1, 0, int64(0)
	add := func(of digest.Digest, desc ocispec.Descriptor) {
		now.of[of] = append(now.of[of], ocispec.Descriptor{Digest: desc.Digest, ArtifactType: desc.ArtifactType})
		cost++
	}
	for _, object := range objects {
		desc, _ := s.src.Known(loc, object.Digest)
		if !image.IsManifest(desc.MediaType) || !s.isWhole(loc, object.Digest) {
			continue
		}
		n++
		if size += desc.Size; n > maxSubjects || size > maxSubjectBytes {
			s.log.Warn("not all manifests are read for what refers to others", "repository", loc.String(), "read", n-1)
			break
		}
		doc, err := s.document(ctx, loc, object.Digest)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // what is incomplete is not remembered
		}
		if err != nil {
			continue
		}
		if doc.Subject != nil {
			add(doc.Subject.Digest, ocispec.Descriptor{Digest: doc.dgst, ArtifactType: doc.Type()})
		}
		for of, desc := range doc.Attestations() {
			if s.here(loc, desc.Digest) {
				add(of, desc)
			}
		}
	}
	s.images.subjects.put(loc, now, cost)
	return now.of, nil
}
