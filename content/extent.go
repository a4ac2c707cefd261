package content

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxMissing bounds Extent.Missing: a manifest names what it likes.
	maxMissing = 1000
	// maxExtent is how many blobs of an image are looked at. Whichever way images come in, they have 10,000 at most.
	maxExtent = 100_000
)

// An Extent is all that an image is made of.
type Extent struct {
	Blobs   int                  // different ones, of those that are known
	Size    int64                // bytes of these: as here or, where it is absent, as it was said
	Missing []ocispec.Descriptor // of these, what is to be here and is not, the first 1,000; a layer not for others to distribute is none
	Absent  int                  // how many these are
	Cut     bool                 // it names more than 100,000, and the others were not looked at
}

// Extent looks what image, a manifest or an index, is made of: itself, and what it and the manifests and indexes among that
// name, however deep; its subject is none of it. What only an absent manifest names is not known.
func (s *Store) Extent(image ocispec.Descriptor) (Extent, error) {
	if err := s.check(); err != nil {
		return Extent{}, err
	}
	var missing []ocispec.Descriptor
	absent := make(map[digest.Digest]bool)
	x, err := s.extent(image, func(p part, there bool) {
		if there || isForeign(p.MediaType) || absent[p.Digest] {
			return
		}
		absent[p.Digest] = true
		if len(missing) < maxMissing {
			missing = append(missing, ocispec.Descriptor{MediaType: p.MediaType, Digest: p.Digest, Size: p.Size})
		}
	})
	x.Missing, x.Absent = missing, len(absent)
	return x, err
}

// extent is Extent that calls met for each, and says whether it is here; then its size is that of the blob. One that is
// absent is met again wherever it is named: each may call it something else.
func (s *Store) extent(image ocispec.Descriptor, met func(p part, there bool)) (x Extent, err error) {
	here := make(map[digest.Digest]bool) // of those that were met
	read := make(map[digest.Digest]bool) // for what they name
	meet := func(p part) bool {
		there, before := here[p.Digest]
		switch {
		case before:
			if !there {
				met(p, false)
			}
			return there
		case p.Digest.Validate() != nil:
			return false
		case len(here) == maxExtent:
			x.Cut = true
			return false
		}
		info, err := s.Stat(p.Digest)
		here[p.Digest] = err == nil
		x.Blobs++
		if err != nil {
			x.Size += min(max(p.Size, 0), maxTotal)
			met(p, false)
			return false
		}
		x.Size += info.Size
		p.Size = info.Size
		met(p, true)
		return true
	}
	var manifests []digest.Digest // to be read
	if meet(part{image.MediaType, image.Digest, image.Size}) {
		manifests = append(manifests, image.Digest)
	}
	for len(manifests) > 0 && !x.Cut {
		dgst := manifests[0]
		if manifests = manifests[1:]; read[dgst] {
			continue
		}
		read[dgst] = true
		n, err := s.namesOf(dgst)
		if err != nil {
			return x, err
		}
		for i, p := range n.made() {
			if meet(p) && i < len(n.manifests) && isManifest(p.MediaType) && !read[p.Digest] {
				manifests = append(manifests, p.Digest)
			}
		}
	}
	return x, nil
}
