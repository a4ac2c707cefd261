package content

import (
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Adopt records that the repository repo answered for image and for all of it that is here, and that tag, unless it is "", was
// resolved to it at a time. Where it is on record that repo answered for image, or what tag was resolved to, that stays: it is
// for an image that another tool put into the store and into index.json.
func (s *Store) Adopt(repo, tag string, image ocispec.Descriptor, at time.Time) error {
	if _, err := s.Object(repo, image.Digest); err != nil {
		if err := s.adopt(repo, image); err != nil {
			return fmt.Errorf("%.300q: image %s: %w", repo, image.Digest, err)
		}
	}
	if tag == "" {
		return nil
	}
	if err := checkTag(tag); err != nil {
		return err
	}
	if _, _, err := s.Tag(repo, tag); err == nil {
		return nil
	}
	return s.setRecord(repo, "_tags", tag, image, &at)
}

func (s *Store) adopt(repo string, image ocispec.Descriptor) error {
	var parts []part
	if _, err := s.extent(image, func(p part, there bool) {
		if there {
			parts = append(parts, p)
		}
	}); err != nil {
		return err
	}
	slices.Reverse(parts) // the image itself last: with it all is on record
	for _, p := range parts {
		if err := s.SetObject(repo, ocispec.Descriptor{MediaType: p.MediaType, Digest: p.Digest, Size: p.Size}); err != nil {
			return err
		}
	}
	return nil
}
