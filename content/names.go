package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxManifest = 4 << 20 // bytes of a manifest or index that is read for what it names
	maxNamed    = 10_000  // descriptors in a list of it, as package image has it; one with more names nothing
)

// artifactManifest is a type of manifests that was in image-spec v1.1 until its second candidate. No way in takes them for images;
// what they name is not evicted all the same.
const artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// A part is what a manifest says of a blob that it names.
type part struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// names is what manifests and indexes of all types name.
type names struct {
	manifests, layers, blobs []part
	config, subject          *part
}

// made is what the manifest is made of; its subject is none of that.
func (n *names) made() []part {
	all := append(append(n.manifests, n.layers...), n.blobs...)
	if n.config != nil {
		all = append(all, *n.config)
	}
	return all
}

// followed are the manifests among what it names, the subject too.
func (n *names) followed() []digest.Digest {
	var all []digest.Digest
	for _, p := range n.manifests {
		if isManifest(p.MediaType) || p.MediaType == artifactManifest {
			all = append(all, p.Digest)
		}
	}
	if n.subject != nil {
		all = append(all, n.subject.Digest)
	}
	return all
}

// namesOf returns what the blob dgst names: nothing if it is no manifest or index, is gone, or can't be read from the disk. That it
// can't be read now, as where there are too many open files, is an error: it may name something.
func (s *Store) namesOf(dgst digest.Digest) (names, error) {
	b, err := readAtMost(s.blobPath(dgst), maxManifest)
	switch {
	case errors.Is(err, iofs.ErrNotExist), errors.Is(err, errDamaged), errors.Is(err, syscall.EIO):
		return names{}, nil
	case err != nil:
		return names{}, fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	n, err := readNames(b)
	if err != nil {
		return names{}, nil //nolint:nilerr // it is no manifest
	}
	return n, nil
}

// readNames reads a manifest or an index. It takes memory for what that names alone, and not for what its lists may be besides.
func readNames(b []byte) (n names, err error) {
	if !json.Valid(b) {
		return n, errors.New("it is no JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return n, errors.New("it is no object")
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return n, err
		}
		key, _ := tok.(string)
		if err := n.field(dec, key); err != nil {
			return names{}, fmt.Errorf("%.100q: %w", key, err)
		}
	}
	return n, nil
}

// field reads the value of key. As with encoding/json, and so with most who read manifests, its case doesn't count.
func (n *names) field(dec *json.Decoder, key string) error {
	switch strings.ToLower(key) {
	case "manifests":
		return readParts(dec, &n.manifests)
	case "layers":
		return readParts(dec, &n.layers)
	case "blobs":
		return readParts(dec, &n.blobs)
	case "config":
		return dec.Decode(&n.config)
	case "subject":
		return dec.Decode(&n.subject)
	}
	return dec.Decode(new(ignored))
}

func readParts(dec *json.Decoder, into *[]part) error {
	tok, err := dec.Token()
	switch {
	case err != nil:
		return err
	case tok == nil: // null
		return nil
	case tok != json.Delim('['):
		return errors.New("it is no array")
	}
	for dec.More() {
		if len(*into) == maxNamed {
			return fmt.Errorf("it has more than %d elements", maxNamed)
		}
		var p part
		if err := dec.Decode(&p); err != nil {
			return err
		}
		*into = append(*into, p)
	}
	_, err = dec.Token()
	return err
}

// ignored is a value that nobody asks for.
type ignored struct{}

func (*ignored) UnmarshalJSON([]byte) error { return nil }

// isManifest says whether what a manifest or index calls a manifest is one, by its media type. "" leaves it open.
func isManifest(mediaType string) bool {
	mediaType, _, _ = strings.Cut(mediaType, ";")
	switch strings.ToLower(strings.TrimSpace(mediaType)) {
	case "", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json":
		return true
	}
	return false
}

// isForeign says whether a layer is not for others to distribute (image-spec v1.1, layer.md, "Non-Distributable Layers"): an
// image is whole without it.
func isForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.tar")
}
