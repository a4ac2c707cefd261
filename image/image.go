// Package image reads what an image is made of: manifests and indexes, OCI's
// and docker's schema 2. Bytes go in, descriptors come out; nothing here asks
// the network or knows a store.
//
// A manifest is hostile input. [Parse] either returns a document every
// descriptor of which has a valid digest, a size that is not negative and a
// media type, or an error; it reads a document in one way only, so that no two
// readers can see two images in the same bytes: what is an index and a
// manifest at once (CVE-2021-41190), contradicts its declared media type, has a
// key twice, or one size for a digest here and another there, is refused. What
// it allocates is bounded by constants, never by a number in the input.
package image

import (
	"iter"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, of image manifest version 2, schema 2, and its
// predecessor, which is not supported.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"

	dockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Bounds of a document. That of the bytes is what the distribution
// specification asks registries to accept at least.
const (
	MaxBytes       = 4 << 20 // of a document
	MaxDescriptors = 10_000  // in one list of it

	maxEntries   = 200_000 // fields, annotations, URLs and features in all of it
	maxMediaType = 255     // bytes of one: 127 on each side of the slash (RFC 6838, 4.2)
	maxWord      = 255     // bytes of an OS, an architecture, and the like; the longest in use have some 20
	maxFeatures  = 32      // os.features of a platform; Windows knows one
)

// A Document is a manifest or an index.
type Document struct {
	MediaType    string // one of the four that IsManifest knows; told by content where the document has none
	Index        bool   // Manifests is what it lists; else Config and Layers
	Config       *ocispec.Descriptor
	Layers       []ocispec.Descriptor // lowest first
	Manifests    []ocispec.Descriptor
	Subject      *ocispec.Descriptor // what it refers to; nil for most
	ArtifactType string
	Annotations  map[string]string
}

// Descriptors yields every descriptor that d names: config, layers, manifests,
// and the subject last.
func (d *Document) Descriptors() iter.Seq[ocispec.Descriptor] {
	return func(yield func(ocispec.Descriptor) bool) {
		if d.Config != nil && !yield(*d.Config) {
			return
		}
		for _, list := range [][]ocispec.Descriptor{d.Layers, d.Manifests} {
			for _, desc := range list {
				if !yield(desc) {
					return
				}
			}
		}
		if d.Subject != nil {
			yield(*d.Subject)
		}
	}
}

// IsImage says whether d is the manifest of a file system's image: its config is
// one's and its layers are tars; or it is no artifact by what it says of itself,
// and its layers are of the types that images have alone, as a docker plugin's
// are. One with a layer that is no tar is none, for its tree would lack that.
func (d *Document) IsImage() bool {
	if d.Config == nil {
		return false
	}
	image := IsConfig(d.Config.MediaType)
	if !image && (d.ArtifactType != "" || len(d.Layers) == 0) {
		return false
	}
	for _, desc := range d.Layers {
		_, titled := desc.Annotations[ocispec.AnnotationTitle]
		if !IsLayer(desc.MediaType) || !image && (titled || !isImageLayer(desc.MediaType)) {
			return false
		}
	}
	return true
}

// IsManifest says whether mediaType is a manifest's or an index's, one that
// Parse reads. Parameters behind a semicolon don't count.
func IsManifest(mediaType string) bool {
	switch essence(mediaType) {
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest:
		return true
	}
	return IsIndex(mediaType)
}

// IsIndex says whether mediaType is an index's or a docker manifest list's.
func IsIndex(mediaType string) bool {
	switch essence(mediaType) {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerList:
		return true
	}
	return false
}

// IsConfig says whether mediaType is that of the config of an image of a file
// system.
func IsConfig(mediaType string) bool {
	switch essence(mediaType) {
	case ocispec.MediaTypeImageConfig, mediaTypeDockerConfig:
		return true
	}
	return false
}

// CheckType refuses, by an *Error, what is never read whatever its bytes are:
// docker's schema 1.
func CheckType(mediaType string) error {
	switch essence(mediaType) {
	case dockerSchema1, dockerSchema1Signed:
		return schema1()
	}
	return nil
}

// essence returns a media type without its parameters and in lower case.
func essence(mediaType string) string {
	mediaType, _, _ = strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}
