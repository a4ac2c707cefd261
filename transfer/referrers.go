package transfer

import (
	"context"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrers adds what refers to what was asked for and to images, with all that
// it names and what refers to it in turn, and returns it. The attestations that
// an index has of images count as such.
func (s *session) referrers(ctx context.Context, top *document, images []ocispec.Descriptor,
	ask func(context.Context, locator.Locator, digest.Digest) ([]ocispec.Descriptor, error),
) ([]ocispec.Descriptor, error) {
	level := append([]ocispec.Descriptor{top.desc}, images...)
	asked := make(map[digest.Digest]bool)
	var all []ocispec.Descriptor
	found := s.attestations(images)
	for range maxNesting {
		for _, of := range level {
			if asked[of.Digest] {
				continue
			}
			asked[of.Digest] = true
			descs, err := ask(ctx, s.loc, of.Digest)
			if err != nil {
				return nil, err
			}
			found = append(found, descs...)
			if len(found) > maxParts {
				return nil, broken("%s has more than %d referrers", of.Digest, maxParts)
			}
		}
		if len(found) == 0 {
			return all, nil
		}
		if err := s.everything(ctx, found); err != nil {
			return nil, err
		}
		level = nil
		for _, desc := range found {
			if doc := s.docs[desc.Digest]; doc != nil {
				level = append(level, doc.desc)
			}
		}
		all, found = append(all, level...), nil
	}
	return all, nil // who refers to what refers to … so many times is not followed
}

// attestations are those that the indexes which were read have of images.
func (s *session) attestations(images []ocispec.Descriptor) []ocispec.Descriptor {
	of := make(map[string]bool)
	for _, desc := range images {
		of[desc.Digest.String()] = true
	}
	var found []ocispec.Descriptor
	for _, doc := range s.docs {
		for _, desc := range doc.Manifests {
			if desc.Annotations[attestationType] == "attestation-manifest" && of[desc.Annotations[attestationDigest]] {
				found = append(found, desc)
			}
		}
	}
	return found
}
