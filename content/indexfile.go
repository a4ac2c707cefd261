package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An indexFile is what index.json holds, as it was written but for what is understood of it.
type indexFile struct {
	fields  map[string]json.RawMessage
	entries []indexEntry // of "manifests"
}

// An indexEntry is what it was written as, and what is understood of that: nothing where it makes no sense.
type indexEntry struct {
	raw    json.RawMessage
	digest digest.Digest
	name   string // "" if it has none
}

func newIndexEntry(raw json.RawMessage) indexEntry {
	var entry struct {
		Digest      digest.Digest  `json:"digest"`
		Annotations map[string]any `json:"annotations"`
	}
	if json.Unmarshal(raw, &entry) != nil {
		return indexEntry{raw: raw}
	}
	name, _ := entry.Annotations[ocispec.AnnotationRefName].(string)
	return indexEntry{raw, entry.Digest, name}
}

// readIndex reads an index.json. One that isn't there is an empty one; one that makes no sense is an error, and not written over.
func readIndex(path string) (*indexFile, error) {
	b, err := readAtMost(path, maxIndex)
	if errors.Is(err, iofs.ErrNotExist) {
		return emptyIndex()
	}
	if err != nil {
		return nil, err
	}
	x := &indexFile{fields: make(map[string]json.RawMessage)}
	if err := json.Unmarshal(b, &x.fields); err != nil {
		return nil, err
	}
	if x.fields == nil {
		return nil, errors.New("it is no object")
	}
	if m := x.fields["manifests"]; m != nil {
		var entries []json.RawMessage
		if err := json.Unmarshal(m, &entries); err != nil {
			return nil, fmt.Errorf("manifests: %w", err)
		}
		for _, raw := range entries {
			x.entries = append(x.entries, newIndexEntry(raw))
		}
	}
	return x, nil
}

// noImages is the index.json of no image.
func noImages() ocispec.Index {
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
}

func emptyIndex() (*indexFile, error) {
	x := &indexFile{fields: make(map[string]json.RawMessage)}
	b, err := json.Marshal(noImages())
	if err != nil {
		return nil, err
	}
	return x, json.Unmarshal(b, &x.fields)
}

// remove takes out all entries of that name and returns their digests.
func (x *indexFile) remove(name string) (gone []digest.Digest) {
	x.entries = slices.DeleteFunc(x.entries, func(e indexEntry) bool {
		if e.name != name || name == "" {
			return false
		}
		gone = append(gone, e.digest)
		return true
	})
	return gone
}

// stands counts the entries of that name, "" for those without one, that are of dgst; others are those of the same name, if it is
// one.
func (x *indexFile) stands(name string, dgst digest.Digest) (same, others int) {
	for _, e := range x.entries {
		switch {
		case e.name == name && e.digest == dgst:
			same++
		case e.name == name && name != "":
			others++
		}
	}
	return same, others
}

// find returns the first image of that name or digest, "" is any, and counts it and those that are of another digest.
func (x *indexFile) find(name string) (first ocispec.Descriptor, n int, err error) {
	for _, e := range x.entries {
		var image ocispec.Descriptor
		if err := json.Unmarshal(e.raw, &image); err != nil {
			return first, n, err
		}
		if name != "" && name != image.Annotations[ocispec.AnnotationRefName] && name != image.Digest.String() {
			continue
		}
		if n == 0 {
			first = image
		}
		if n == 0 || image.Digest != first.Digest {
			n++
		}
	}
	return first, n, nil
}

// put enters image in the place of all others of its name, or says that it stands there alone as it is.
func (x *indexFile) put(image ocispec.Descriptor) (changed bool, err error) {
	entry, err := entryOf(image)
	if err != nil {
		return false, err
	}
	alike, others := 0, 0
	for _, e := range x.entries {
		switch {
		case e.name != entry.name:
		case isAlike(e.raw, entry.raw):
			alike++
		default:
			others++
		}
	}
	if alike == 1 && others == 0 {
		return false, nil
	}
	x.remove(entry.name)
	x.entries = append(x.entries, entry)
	return true, nil
}

// isAlike says whether two pieces of JSON differ in blanks alone.
func isAlike(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func (x *indexFile) add(image ocispec.Descriptor) error {
	entry, err := entryOf(image)
	if err == nil {
		x.entries = append(x.entries, entry)
	}
	return err
}

func entryOf(image ocispec.Descriptor) (indexEntry, error) {
	raw, err := json.Marshal(ocispec.Descriptor{
		MediaType: image.MediaType, Digest: image.Digest, Size: image.Size,
		Platform: image.Platform, Annotations: image.Annotations, ArtifactType: image.ArtifactType,
	})
	if err != nil {
		return indexEntry{}, err
	}
	return newIndexEntry(raw), nil
}

func (x *indexFile) encode() ([]byte, error) {
	entries := make([]json.RawMessage, len(x.entries))
	for i, e := range x.entries {
		entries[i] = e.raw
	}
	manifests, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	x.fields["manifests"] = manifests
	raw, err := json.Marshal(x.fields)
	if err != nil {
		return nil, err
	}
	if indentedLen(raw) >= maxIndex {
		return nil, fmt.Errorf("it would be larger than %d bytes", maxIndex)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// indentedLen is how long compact JSON gets by json.Indent with two blanks. Of a few kilobytes of brackets, which others may have
// written, that makes a gigabyte.
func indentedLen(b []byte) int {
	n, depth, quoted := len(b), 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ':':
			n++
		case c == ',':
			n += 1 + 2*depth
		case (c == '{' || c == '[') && (b[i+1] == '}' || b[i+1] == ']'): // it stays as it is
			i++
		case c == '{' || c == '[':
			depth++
			n += 1 + 2*depth
		case c == '}' || c == ']':
			depth--
			n += 1 + 2*depth
		}
	}
	return n
}
