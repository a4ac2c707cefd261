package image

import (
	iofs "io/fs"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A PlatformError says that an index has nothing for a platform, or that an
// image is for another one.
// It is fs.ErrNotExist to errors.Is.
type PlatformError struct {
	Want ocispec.Platform
	Have []string // the platforms there are, each once, in the index's order

	alone bool // it is one image, in no index
}

// Error lists the first platforms there are.
func (e *PlatformError) Error() string {
	const most = 20
	have := strings.Join(e.Have[:min(len(e.Have), most)], ", ")
	switch {
	case len(e.Have) == 0:
		have = "no image at all"
	case len(e.Have) > most:
		have += " and " + strconv.Itoa(len(e.Have)-most) + " more"
	}
	if e.alone {
		return "no image for " + format(e.Want) + ": it is one for " + have
	}
	return "no image for " + format(e.Want) + ", the index has " + have
}

// Is makes every PlatformError fs.ErrNotExist.
func (e *PlatformError) Is(target error) bool {
	return target == iofs.ErrNotExist
}

// Choose returns the manifest for p from an index, or a nested index, from
// which the caller chooses again. As with containerd, the nearest that runs on p
// wins: its own variant, then the lower ones (arm/v7, v6, v5; amd64/v3, v2, v1),
// then the 32-bit sibling (amd64: 386; arm64: arm/v8 and below); of several as
// near, the first in the index. Where p names an OS version, as for Windows, the
// entry must have the same first three numbers, or none.
//
// Attestations, and entries that are no manifests, are passed over. Entries
// without a platform count only where no entry has one: then the first is
// taken. If nothing is left the error is a *PlatformError.
func (d *Document) Choose(p ocispec.Platform) (ocispec.Descriptor, error) {
	p = normalize(p)
	ladder := compatible(p)
	best, rank := -1, len(ladder)
	bare := -1 // the first without a platform
	none := &PlatformError{Want: p}
	seen := make(map[string]bool)
	for i, desc := range d.Manifests {
		if !IsManifest(desc.MediaType) || isAttestation(desc) {
			continue
		}
		if desc.Platform == nil {
			if bare < 0 {
				bare = i
			}
			continue
		}
		have := normalize(*desc.Platform)
		if name := format(have); !seen[name] {
			seen[name] = true
			none.Have = append(none.Have, name)
		}
		if r := nearness(ladder, p, have); r < rank {
			best, rank = i, r
		}
	}
	switch {
	case best >= 0:
		return d.Manifests[best], nil
	case bare >= 0 && len(none.Have) == 0:
		return d.Manifests[bare], nil
	case bare >= 0:
		none.Have = append(none.Have, "images without a platform")
	}
	return ocispec.Descriptor{}, none
}

// Fits is a *PlatformError if an image for have does not run where one for want
// was asked for, by the rules of Choose. 32-bit ARM without a variant, as configs
// of old images have it, may be any.
func Fits(have, want ocispec.Platform) error {
	anyARM := have.Variant == ""
	have, want = normalize(have), normalize(want)
	if anyARM && have.Architecture == "arm" && want.Architecture == "arm" {
		have.Variant = want.Variant
	}
	if ladder := compatible(want); nearness(ladder, want, have) == len(ladder) {
		return &PlatformError{Want: want, Have: []string{format(have)}, alone: true}
	}
	return nil
}

// nearness returns on which rung of p's ladder have stands; len(ladder) is none.
func nearness(ladder []rung, p, have ocispec.Platform) int {
	if have.OS != p.OS || !sameBuild(p.OSVersion, have.OSVersion) {
		return len(ladder)
	}
	for i, r := range ladder {
		if r == (rung{have.Architecture, have.Variant}) {
			return i
		}
	}
	return len(ladder)
}

// sameBuild says whether an image of the OS version have runs where want was
// asked for. It is Windows that has one: containers there need the host's
// build, which is the third number. The fourth, the revision, may differ.
func sameBuild(want, have string) bool {
	return want == "" || have == "" || build(want) == build(have)
}

// build returns the first three numbers of a version.
func build(version string) string {
	parts := strings.SplitN(version, ".", 4)
	return strings.Join(parts[:min(len(parts), 3)], ".")
}

// isAttestation says whether desc is one of BuildKit's attestation manifests:
// its platform is unknown/unknown, and it names the manifest that it is about.
func isAttestation(desc ocispec.Descriptor) bool {
	if desc.Annotations[attestationType] == "attestation-manifest" {
		return true
	}
	return desc.Platform != nil && desc.Platform.OS == "unknown" && desc.Platform.Architecture == "unknown"
}
