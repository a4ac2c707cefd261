package main

import (
	"os"
	"path/filepath"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexSettles is how old an index.json has to be for its time to tell it from one
// that is written later. Who writes it in place writes it by halves.
const indexSettles = 100 * time.Millisecond

// adopt has the repositories of their names answer for the images of index.json,
// which other tools may have put there. What is on record stays as it is.
//
// It is called before what it may change is asked for: the store's watch tells of
// another index.json a moment later.
func (s *source) adopt() {
	s.adopting.Lock()
	defer s.adopting.Unlock()
	index, err := os.Stat(filepath.Join(s.store.Dir(), ocispec.ImageIndexFile))
	if err != nil || s.adopted != nil && os.SameFile(s.adopted, index) && s.adopted.ModTime().Equal(index.ModTime()) {
		return
	}
	settled := time.Since(index.ModTime()) > indexSettles
	if settled {
		s.adopted = index
	}
	images, err := s.store.Images()
	if err != nil {
		if settled {
			s.log.Warn("images of other tools are not seen", "err", err)
		}
		return
	}
	for _, image := range images {
		ref, ok := s.named(image)
		if !ok {
			continue
		}
		image.Digest = ref.Digest
		if err := s.store.Adopt(ref.Locator.String(), ref.Tag, image, index.ModTime()); err != nil {
			s.log.Warn("an image of another tool is not seen", "image", imageName(image), "err", err)
		}
	}
}
