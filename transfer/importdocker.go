package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxSaved bounds the images in one archive of docker save.
const maxSaved = 10_000

// A saved is an image in manifest.json, as docker save writes it (the image
// specification v1.2 of moby, "Combined Image JSON + Filesystem Changeset").
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// savedImages reads manifest.json.
func savedImages(b []byte) ([]saved, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%s: it is no list", dockerManifest)
	}
	var list []saved
	names := 0
	for dec.More() {
		var one saved
		if err := dec.Decode(&one); err != nil {
			return nil, fmt.Errorf("%s: %w", dockerManifest, err)
		}
		if len(list) == maxSaved {
			return nil, fmt.Errorf("%s: more than %d images", dockerManifest, maxSaved)
		}
		if names += len(one.RepoTags); names > maxNames {
			return nil, fmt.Errorf("%s: more than %d names", dockerManifest, maxNames)
		}
		list = append(list, one)
	}
	return list, nil
}

// settleDocker makes a manifest for each image: an archive of docker save has
// none. Layers are stored as they are.
func (a *archive) settleDocker(ctx context.Context) error {
	list, err := savedImages(a.docs[dockerManifest])
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return ErrNoImage
	}
	for i, one := range list {
		if err := a.saved(ctx, one); err != nil {
			return fmt.Errorf("%s: image %d: %w", dockerManifest, i+1, err)
		}
	}
	return nil
}

func (a *archive) saved(ctx context.Context, one saved) error {
	if len(one.Layers) > image.MaxDescriptors {
		return fmt.Errorf("more than %d layers", image.MaxDescriptors)
	}
	if a.saves.layers += len(one.Layers); a.saves.layers > maxObjects {
		return fmt.Errorf("more than %d objects in all", maxObjects)
	}
	config, diffIDs, err := a.config(one.Config, len(one.Layers))
	if err != nil {
		return err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{},
	}
	for i, name := range one.Layers {
		desc, err := a.layer(ctx, name, diffIDs[i])
		if err != nil {
			return fmt.Errorf("layer %.200q: %w", name, err)
		}
		m.Layers = append(m.Layers, desc)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dgst := digest.FromBytes(b)
	desc, err := a.write(ctx, dgst.String(), bytes.NewReader(b), int64(len(b)), dgst)
	if err != nil {
		return err
	}
	desc.MediaType = m.MediaType
	a.Images = append(a.Images, Imported{Desc: desc, Names: one.RepoTags, Objects: append([]ocispec.Descriptor{desc, config}, m.Layers...)})
	return nil
}

// nameByDocker gives the names in manifest.json to images that index.json has
// without one: they have the same config.
func (a *archive) nameByDocker(list []offer) {
	images, err := savedImages(a.docs[dockerManifest])
	if err != nil {
		return // index.json says what there is
	}
	names := make(map[digest.Digest][]string)
	for _, one := range images {
		if desc, ok := a.find(one.Config); ok {
			names[desc.Digest] = append(names[desc.Digest], one.RepoTags...)
		}
	}
	for i := range list {
		if _, ok := a.here[list[i].desc.Digest]; !ok || len(list[i].names) > 0 || image.IsIndex(list[i].desc.MediaType) {
			continue
		}
		if doc, err := readDocument(a.store, list[i].desc); err == nil && doc.Config != nil {
			list[i].names = names[doc.Config.Digest]
		}
	}
}

// repoTag is a name as it stands in manifest.json, "" if it has no tag: docker
// takes no digests there.
func repoTag(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if strings.LastIndexByte(name, ':') > strings.LastIndexByte(name, '/') {
		return name
	}
	return ""
}
