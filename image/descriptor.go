package image

import (
	_ "crypto/sha256" // go-digest knows only what is linked in
	_ "crypto/sha512" // sha384 too
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func descriptorKeys() []string {
	return []string{"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}
}

// descriptors reads an array of descriptors into a slice that is never nil.
func (v value) descriptors(into *[]ocispec.Descriptor) error {
	*into = []ocispec.Descriptor{}
	return v.elements(MaxDescriptors, func(v value) error {
		var desc ocispec.Descriptor
		if err := v.descriptor(&desc); err != nil {
			return err
		}
		*into = append(*into, desc)
		return nil
	})
}

// descriptor reads a content descriptor (image-spec, descriptor.md).
func (v value) descriptor(desc *ocispec.Descriptor) error {
	desc.Size = -1
	err := v.fields(descriptorKeys(), func(key string, v value) error {
		return v.descriptorField(key, desc)
	})
	switch {
	case err != nil:
		return err
	case desc.MediaType == "":
		return v.errorf("has no mediaType")
	case desc.Digest == "":
		return v.errorf("has no digest")
	case desc.Size < 0:
		return v.errorf("has no size")
	case desc.Data != nil && int64(len(desc.Data)) != desc.Size:
		return v.errorf("has %d bytes of data, but the size %d", len(desc.Data), desc.Size)
	case desc.Data != nil && desc.Digest.Algorithm().FromBytes(desc.Data) != desc.Digest:
		return v.errorf("has data of another digest")
	}
	return nil
}

func (v value) descriptorField(key string, desc *ocispec.Descriptor) error {
	switch key {
	case "mediaType":
		return v.mediaType(&desc.MediaType)
	case "digest":
		return v.digest(&desc.Digest)
	case "size":
		return v.size(&desc.Size)
	case "urls":
		return optional(v, v.strings, &desc.URLs)
	case "annotations":
		return optional(v, v.annotations, &desc.Annotations)
	case "data":
		return optional(v, v.data, &desc.Data)
	case "platform":
		if v.isNull() {
			return nil
		}
		desc.Platform = new(ocispec.Platform)
		return v.platform(desc.Platform)
	case "artifactType":
		return optional(v, v.mediaType, &desc.ArtifactType)
	}
	return nil
}

// mediaType reads a media type, which goes into headers and attributes: it is
// checked for its length and for being printable ASCII, not for its grammar,
// which not all artifacts keep.
func (v value) mediaType(into *string) error {
	return v.printable(into, maxMediaType, "is no media type")
}

func (v value) digest(into *digest.Digest) error {
	var s string
	if err := v.str(&s); err != nil {
		return err
	}
	dgst, err := digest.Parse(s)
	if err != nil {
		return v.errorf("%s: %v", quote(s), err)
	}
	*into = dgst
	return nil
}

// data reads base64.
func (v value) data(into *[]byte) error {
	if v.raw[0] != '"' {
		return v.errorf("is no string")
	}
	*into = []byte{}
	if err := json.Unmarshal(v.raw, into); err != nil {
		return v.errorf("is no base64")
	}
	return nil
}

func (v value) strings(into *[]string) error {
	return v.list(maxEntries, value.str, into)
}

func (v value) annotations(into *map[string]string) error {
	*into = make(map[string]string)
	return v.fields(nil, func(key string, v value) error {
		var s string
		if err := v.str(&s); err != nil {
			return err
		}
		(*into)[key] = s
		return nil
	})
}

// platform reads what an image is for, which goes into other documents, into
// paths and onto terminals.
func (v value) platform(p *ocispec.Platform) error {
	known := []string{"architecture", "os", "os.version", "os.features", "variant"}
	return v.fields(known, func(key string, v value) error {
		switch key {
		case "architecture":
			return optional(v, v.word, &p.Architecture)
		case "os":
			return optional(v, v.word, &p.OS)
		case "os.version":
			return optional(v, v.word, &p.OSVersion)
		case "os.features":
			return optional(v, v.features, &p.OSFeatures)
		case "variant":
			return optional(v, v.word, &p.Variant)
		}
		return nil
	})
}

// word reads a string of a platform.
func (v value) word(into *string) error {
	return v.printable(into, maxWord, "is not printable ASCII")
}

func (v value) features(into *[]string) error {
	return v.list(maxFeatures, value.word, into)
}
