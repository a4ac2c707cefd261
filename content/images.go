package content

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images returns the images that are whole: what index.json names, each with its platform, if it has one, and its name in the
// annotation org.opencontainers.image.ref.name, without the others. Entries without a name are left out. Nothing is checked
// of a name or a digest but that it is a string.
func (s *Store) Images() ([]ocispec.Descriptor, error) {
	all, err := s.Index()
	return slices.DeleteFunc(all, func(m ocispec.Descriptor) bool { return m.Annotations == nil }), err
}

// Index is Images with the entries that have no name; these have no annotations.
func (s *Store) Index() ([]ocispec.Descriptor, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b, err := readAtMost(s.path(ocispec.ImageIndexFile), maxIndex)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(ocispec.ImageIndexFile), bare(err))
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(ocispec.ImageIndexFile), err)
	}
	images := make([]ocispec.Descriptor, 0, len(index.Manifests))
	for _, m := range index.Manifests {
		image := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, Platform: m.Platform}
		if name := m.Annotations[ocispec.AnnotationRefName]; name != "" {
			image.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		}
		images = append(images, image)
	}
	return images, nil
}
