package image

import (
	"encoding/json"
	"math"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Parse reads a manifest or an index. mediaType is what the descriptor or the
// server said that it is; "" and types that say nothing, such as
// application/json, leave that to the document, and where it is silent too, to
// its content. b is not kept. The error is an *Error.
func Parse(mediaType string, b []byte) (*Document, error) {
	if len(b) > MaxBytes {
		return nil, &Error{Why: "is larger than 4 MiB"}
	}
	if !json.Valid(b) {
		return nil, &Error{Why: "is no JSON"}
	}
	left := maxEntries
	var d draft
	if err := d.read(value{raw: b, left: &left}); err != nil {
		return nil, err
	}
	if err := d.settle(essence(mediaType)); err != nil {
		return nil, err
	}
	if err := agree(&d.doc); err != nil {
		return nil, err
	}
	return &d.doc, nil
}

// A draft is a document of which it is not known yet what it is.
type draft struct {
	doc Document
	has map[string]bool // the keys that are there, null or not
}

func documentKeys() []string {
	return []string{"schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "artifactType", "annotations", "fsLayers"}
}

func (d *draft) read(v value) error {
	d.has = make(map[string]bool)
	return v.fields(documentKeys(), func(key string, v value) error {
		d.has[key] = true
		return d.field(key, v)
	})
}

func (d *draft) field(key string, v value) error {
	switch key {
	case "schemaVersion":
		return schemaVersion(v)
	case "fsLayers":
		return schema1()
	case "mediaType":
		return optional(v, v.str, &d.doc.MediaType)
	case "config":
		d.doc.Config = new(ocispec.Descriptor)
		return v.descriptor(d.doc.Config)
	case "layers":
		return v.descriptors(&d.doc.Layers)
	case "manifests":
		return v.descriptors(&d.doc.Manifests)
	case "subject":
		if v.isNull() {
			return nil
		}
		d.doc.Subject = new(ocispec.Descriptor)
		return v.descriptor(d.doc.Subject)
	case "artifactType":
		return optional(v, v.mediaType, &d.doc.ArtifactType)
	case "annotations":
		return optional(v, v.annotations, &d.doc.Annotations)
	}
	return nil
}

func schemaVersion(v value) error {
	var n int64
	if err := v.size(&n); err != nil {
		return err
	}
	switch n {
	case 1:
		return schema1()
	case 2:
		return nil
	}
	return v.errorf("is %d, only 2 is supported", n)
}

func schema1() error {
	return &Error{Why: "is docker's schema 1, which is not supported: push the image again with a current tool"}
}

// settle says what the document is: what was declared, what it says itself and
// what it has must not contradict one another.
func (d *draft) settle(declared string) error {
	own := essence(d.doc.MediaType)
	for _, t := range []string{declared, own} {
		if err := CheckType(t); err != nil {
			return err
		}
		if !IsManifest(t) && !saysNothing(t) {
			return &Error{Where: "mediaType", Why: quote(t) + " is neither a manifest's nor an index's"}
		}
	}
	if IsManifest(declared) && IsManifest(own) && declared != own {
		return &Error{Where: "mediaType", Why: "is " + quote(own) + ", but was declared as " + quote(declared)}
	}
	isManifest := d.has["config"] || d.has["layers"]
	if d.has["manifests"] && isManifest {
		return &Error{Why: "is ambiguous: it has manifests, as an index has, and config or layers, as a manifest has"}
	}
	switch {
	case IsManifest(own):
		d.doc.MediaType = own
	case IsManifest(declared):
		d.doc.MediaType = declared
	case d.has["manifests"]:
		d.doc.MediaType = ocispec.MediaTypeImageIndex
	case isManifest:
		d.doc.MediaType = d.byConfig()
	default:
		return &Error{Why: "is neither a manifest nor an index: it has no manifests, config or layers"}
	}
	d.doc.Index = IsIndex(d.doc.MediaType)
	return d.complete()
}

// saysNothing says whether a media type leaves open what the bytes are: it is
// what servers send that don't know.
func saysNothing(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain":
		return true
	}
	return false
}

// byConfig returns the manifest's type by that of its config: docker's has one
// of its own.
func (d *draft) byConfig() string {
	if d.doc.Config != nil && essence(d.doc.Config.MediaType) == mediaTypeDockerConfig {
		return mediaTypeDockerManifest
	}
	return ocispec.MediaTypeImageManifest
}

// complete checks that what the document's kind requires is there, and nothing
// of the other kind.
func (d *draft) complete() error {
	required, foreign := []string{"config", "layers"}, []string{"manifests"}
	if d.doc.Index {
		required, foreign = foreign, required
	}
	for _, key := range foreign {
		if d.has[key] {
			return &Error{Where: key, Why: "contradicts the media type " + d.doc.MediaType}
		}
	}
	for _, key := range required {
		if !d.has[key] {
			return &Error{Where: key, Why: "is missing in a document of the media type " + d.doc.MediaType}
		}
	}
	if d.doc.Config != nil && IsForeign(d.doc.Config.MediaType) { // an image is whole without such a layer
		return &Error{Where: "config", Why: "is of the media type of a layer that is not for others to distribute"}
	}
	return nil
}

// agree refuses a digest of two sizes, and sizes whose sum is no int64.
func agree(d *Document) error {
	sizes := make(map[digest.Digest]int64)
	var sum int64
	for desc := range d.Descriptors() {
		if size, ok := sizes[desc.Digest]; ok && size != desc.Size {
			return &Error{Why: "names " + string(desc.Digest) + " with two sizes"}
		}
		sizes[desc.Digest] = desc.Size
		if sum > math.MaxInt64-desc.Size {
			return &Error{Why: "names more than 2^63 bytes in sum"}
		}
		sum += desc.Size
	}
	return nil
}
