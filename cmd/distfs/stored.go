package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"distfs/content"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A stored thing is what an argument DIGEST|IMAGE means: an image by its name in
// index.json, or whatever has the digest.
type stored struct {
	name   string // of an image, as index.json has it; "" for a digest
	digest digest.Digest
}

func (o *stored) String() string {
	if o.name != "" {
		return o.name
	}
	return string(o.digest)
}

func (o *stored) dgst() string { return string(o.digest) }

// A storedName is what stored things are in output for programs.
type storedName struct {
	Name   string        `json:"name,omitempty"`
	Digest digest.Digest `json:"digest"`
}

// algorithms are those of digests: what begins with one and a colon is a digest
// or nothing, as in the mount.
var algorithms = []string{"sha256:", "sha384:", "sha512:"}

func looksLikeDigest(arg string) bool {
	return slices.ContainsFunc(algorithms, func(a string) bool { return strings.HasPrefix(arg, a) })
}

// checkStored refuses what can't be a DIGEST|IMAGE: neither a digest, nor a
// reference, nor a name that another tool gave an image.
func (p *program) checkStored(args ...string) error {
	for _, arg := range args {
		if looksLikeDigest(arg) {
			if _, err := locator.ParseDigest(arg); err != nil {
				return &usageError{err}
			}
		} else if _, err := p.hosts.ParseReference(arg); err != nil && !p.isImage(arg) {
			return &usageError{err}
		}
	}
	return nil
}

// eachStored calls f with what each of args means. All are read before the first
// call; what is told of one that fails does not keep the others.
func (p *program) eachStored(ctx context.Context, args []string, f func(*content.Store, stored) error) error {
	if err := p.checkStored(args...); err != nil {
		return err
	}
	store, err := p.existing()
	if err != nil {
		return p.lacking(args[0], err)
	}
	defer store.Close()
	var failed error
	for _, arg := range args {
		if err := p.withStored(ctx, store, arg, f); err != nil {
			p.complain(err)
			failed = errSaid
		}
	}
	return failed
}

// printEach calls f with what each of args means, and prints a line for each that it
// did not fail for, or name and digest for programs.
func (p *program) printEach(ctx context.Context, args []string, out *output, line func(*stored) string, f func(*content.Store, stored) error) error {
	done := []storedName{}
	err := p.eachStored(ctx, args, func(store *content.Store, o stored) error {
		if err := f(store, o); err != nil {
			return err
		}
		if out.json() {
			done = append(done, storedName{o.name, o.digest})
			return nil
		}
		_, err := fmt.Fprintln(p.stdout, oneLine(line(&o)))
		return err
	})
	if out.json() {
		err = errors.Join(p.printJSON(done), err)
	}
	return err
}

func (p *program) withStored(ctx context.Context, store *content.Store, arg string, f func(*content.Store, stored) error) error {
	found, err := p.find(store, arg)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	for _, o := range found {
		if err := f(store, o); err != nil {
			return p.lacking(o.String(), err)
		}
	}
	return nil
}

// isImage says whether index.json has exactly that name.
func (p *program) isImage(name string) bool {
	store, err := p.existing()
	if err != nil {
		return false
	}
	defer store.Close()
	images, _ := store.Images()
	return slices.ContainsFunc(images, func(m ocispec.Descriptor) bool { return imageName(m) == name })
}

func imageName(m ocispec.Descriptor) string { return m.Annotations[ocispec.AnnotationRefName] }

// find returns what arg means: one digest, or one image or more, or what the
// store holds under the digest of a reference.
func (p *program) find(store *content.Store, arg string) ([]stored, error) {
	if looksLikeDigest(arg) {
		dgst, err := locator.ParseDigest(arg)
		return []stored{{digest: dgst}}, err
	}
	images, err := store.Images()
	if err != nil {
		return nil, err
	}
	var found []stored
	for _, m := range images {
		if imageName(m) == arg {
			return []stored{{imageName(m), m.Digest}}, nil
		}
		if p.means(arg, m) {
			found = append(found, stored{imageName(m), m.Digest})
		}
	}
	if dgst, ok := p.digestOf(arg); ok && len(found) == 0 {
		if _, err := store.Stat(dgst); err == nil {
			return []stored{{digest: dgst}}, nil
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no image of that name is in the store %s: distfs images lists them", arg, p.flags.store)
	}
	return found, nil
}

// storedImage returns what arg names of the store: an image, or whatever has the
// digest.
func (p *program) storedImage(store *content.Store, arg string) (ocispec.Descriptor, error) {
	found, err := p.find(store, arg)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(found) > 1 && found[0].digest != found[1].digest {
		return ocispec.Descriptor{}, usagef("%s is both %s and %s: name one of them", arg, found[0].name, found[1].name)
	}
	images, err := store.Images()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, one := range images {
		if one.Digest == found[0].digest && (found[0].name == "" || imageName(one) == found[0].name) {
			return one, nil
		}
	}
	info, err := store.Stat(found[0].digest)
	if err != nil {
		return ocispec.Descriptor{}, p.lacking(arg, err)
	}
	return ocispec.Descriptor{Digest: info.Digest, Size: info.Size}, nil
}

// digestOf is the digest that arg has, if it is LOCATOR@DIGEST: what a fetch of
// it printed, which may be an index of which one image has the name.
func (p *program) digestOf(arg string) (digest.Digest, bool) {
	ref, err := p.hosts.ParseReference(arg)
	return ref.Digest, err == nil && ref.Digest != ""
}

// means says whether the reference arg, perhaps a short one, is that of the
// image m: by its tag, or by the digest whatever its tag is.
func (p *program) means(arg string, m ocispec.Descriptor) bool {
	ref, err := p.hosts.ParseReference(arg)
	if err != nil {
		return false
	}
	name, err := p.hosts.ParseReference(imageName(m))
	switch {
	case err != nil || name.Locator != ref.Locator:
		return false
	case ref.Digest == "":
		return name.Digest == "" && name.Tag == ref.Tag
	}
	return m.Digest == ref.Digest && (ref.Tag == "" || name.Tag == ref.Tag)
}
