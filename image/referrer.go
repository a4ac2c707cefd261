package image

import (
	"iter"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	attestationType   = "vnd.docker.reference.type"
	attestationDigest = "vnd.docker.reference.digest"

	// MediaTypeAttestation is the artifact type that BuildKit's attestation
	// manifests have, and that those get which are older than that.
	MediaTypeAttestation = "application/vnd.docker.attestation.manifest.v1+json"
)

// Attestations yields BuildKit's attestation manifests in an index, each with the
// digest of the manifest that it is about. All have an artifact type.
func (d *Document) Attestations() iter.Seq2[digest.Digest, ocispec.Descriptor] {
	return func(yield func(digest.Digest, ocispec.Descriptor) bool) {
		for _, desc := range d.Manifests {
			if desc.Annotations[attestationType] != "attestation-manifest" || !IsManifest(desc.MediaType) {
				continue
			}
			if desc.ArtifactType == "" {
				desc.ArtifactType = MediaTypeAttestation
			}
			if !yield(digest.Digest(desc.Annotations[attestationDigest]), desc) {
				return
			}
		}
	}
}

// Type returns what d is as an artifact: its artifact type, else the media type
// of its config; "" for an index without one (image-spec v1.1, manifest.md,
// "Guidelines for Artifact Usage").
func (d *Document) Type() string {
	if d.ArtifactType == "" && d.Config != nil {
		return d.Config.MediaType
	}
	return d.ArtifactType
}

// IsPlainType says whether mediaType is TYPE/SUBTYPE and no more, each of at most
// 127 letters, digits and !#$&-^_.+ that begins with a letter or a digit (RFC 6838,
// 4.2). Then each can be a file's name.
func IsPlainType(mediaType string) bool {
	kind, sub, _ := strings.Cut(mediaType, "/")
	return isRestricted(kind) && isRestricted(sub)
}

func isRestricted(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("!#$&-^_.+", c) >= 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxMediaType/2
}
