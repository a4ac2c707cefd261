package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"distfs/content"
	"distfs/locator"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An imported is an image as it is to stand in index.json.
type imported struct {
	ref     locator.Reference
	desc    ocispec.Descriptor
	objects []ocispec.Descriptor
}

// name finds the names under which images are entered: as, if that is not nil,
// else their own.
func (p *program) name(im *transfer.Import, as *locator.Reference) ([]imported, error) {
	if as != nil && len(im.Images) > 1 {
		var names []string
		for _, one := range im.Images {
			names = append(names, one.Names...)
		}
		return nil, usagef("--name is for one image, and there are %d: %s", len(im.Images), strings.Join(names, ", "))
	}
	var all []imported
	of := make(map[string]digest.Digest)
	for _, one := range im.Images {
		refs, err := p.references(one, as)
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			if other, ok := of[ref.String()]; ok && other != one.Desc.Digest {
				return nil, fmt.Errorf("two images are %s", ref)
			}
			of[ref.String()] = one.Desc.Digest
			all = append(all, imported{ref, one.Desc, one.Objects})
			for _, desc := range one.Beside {
				all = append(all, imported{locator.Reference{Locator: ref.Locator, Digest: desc.Digest}, desc, nil})
			}
		}
	}
	return all, nil
}

func (p *program) references(one transfer.Imported, as *locator.Reference) ([]locator.Reference, error) {
	if as != nil {
		if as.Digest != "" && as.Digest != one.Desc.Digest {
			return nil, fmt.Errorf("%s: its digest is %s", as, one.Desc.Digest)
		}
		return []locator.Reference{*as}, nil
	}
	if len(one.Names) == 0 {
		return nil, usagef("image %s has no name: give it one by --name", one.Desc.Digest)
	}
	var refs []locator.Reference
	for _, name := range one.Names {
		if !strings.ContainsAny(name, "/:@") {
			return nil, usagef("%.200q is a tag alone: name its image by --name", name)
		}
		ref, err := p.hosts.ParseReference(name)
		if err == nil && ref.Digest != "" && ref.Digest != one.Desc.Digest {
			err = fmt.Errorf("%s: its digest is %s", ref, one.Desc.Digest)
		}
		if err != nil {
			return nil, fmt.Errorf("%w; --name gives it another name", err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// maxRecords bounds what is written down of an import: each is a file.
const maxRecords = 200_000

// An answer is a repository's for a digest.
type answer struct {
	repo   string
	digest digest.Digest
}

// answers are what is to be written down that repositories answered, each once.
func answers(entries []imported) (map[answer]ocispec.Descriptor, error) {
	all := make(map[answer]ocispec.Descriptor)
	for _, one := range entries {
		repo := one.ref.Locator.String()
		for _, desc := range one.objects {
			at := answer{repo, desc.Digest}
			if _, ok := all[at]; ok {
				continue
			}
			if len(all) == maxRecords {
				return nil, fmt.Errorf("the repositories of its names have more than %d objects together", maxRecords)
			}
			all[at] = desc
		}
	}
	return all, nil
}

// enter writes down that the repositories of their names answered for all that
// the images are made of, and then that the images are there.
func enter(ctx context.Context, store *content.Store, entries []imported) error {
	all, err := answers(entries)
	if err != nil {
		return err
	}
	for at, desc := range all {
		if err := errors.Join(ctx.Err(), store.SetObject(at.repo, desc)); err != nil {
			return err
		}
	}
	var images []ocispec.Descriptor
	for _, one := range entries {
		desc := one.desc
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: one.ref.String()}
		images = append(images, desc)
	}
	if err := store.SetImages(images...); err != nil {
		return err
	}
	for _, one := range entries {
		if one.ref.Tag == "" || one.ref.Digest != "" {
			continue
		}
		if err := store.SetTag(one.ref.Locator.String(), one.ref.Tag, one.desc); err != nil {
			return err
		}
	}
	return nil
}

// An entry is what import prints of an image for programs.
type entry struct {
	Name      string        `json:"name"`
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

func (p *program) printEntries(all []imported, out *output) error {
	if out.json() {
		list := make([]entry, len(all))
		for i, one := range all {
			list[i] = entry{one.ref.String(), one.desc.MediaType, one.desc.Digest, one.desc.Size}
		}
		return p.printJSON(list)
	}
	var b strings.Builder
	for _, one := range all {
		fmt.Fprintln(&b, one.ref, one.desc.Digest)
	}
	_, err := p.stdout.WriteString(b.String())
	return err
}
