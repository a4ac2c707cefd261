package image

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Named is one of what an index lists, under a name that can be a file's.
type Named struct {
	Name string
	ocispec.Descriptor
}

// ByPlatform returns the manifests and indexes that an index lists, each once, in
// its order, named by what the index says that they are for: OS-ARCH or
// OS-ARCH-VARIANT. A second of a name has -OSVERSION behind it where it has one;
// if that is taken too, - and the first 12 hex digits of its digest. One without
// a platform, or with one that is not letters, digits and `_`, `.`, `-` between
// them, is named by its digest. Attestations are left out.
func (d *Document) ByPlatform() []Named {
	var list []Named
	taken := make(map[string]digest.Digest)
	for _, desc := range d.Manifests {
		if !IsManifest(desc.MediaType) || isAttestation(desc) {
			continue
		}
		for _, name := range platformNames(desc) {
			other, is := taken[name]
			if !is {
				taken[name] = desc.Digest
				list = append(list, Named{name, desc})
			}
			if !is || other == desc.Digest {
				break
			}
		}
	}
	return list
}

// platformNames returns what desc may be called, best first. The last is nobody
// else's.
func platformNames(desc ocispec.Descriptor) []string {
	own := string(desc.Digest)
	p := desc.Platform
	if p == nil || !isPlatformWord(p.OS) || !isPlatformWord(p.Architecture) || p.Variant != "" && !isPlatformWord(p.Variant) {
		return []string{own}
	}
	name := p.OS + "-" + p.Architecture
	if p.Variant != "" {
		name += "-" + p.Variant
	}
	names := []string{name}
	if isPlatformWord(p.OSVersion) {
		names = append(names, name+"-"+p.OSVersion)
	}
	names = append(names, name+"-"+desc.Digest.Encoded()[:12])
	short := names[:0]
	for _, name := range names {
		if len(name) <= maxName {
			short = append(short, name)
		}
	}
	return append(short, own)
}
