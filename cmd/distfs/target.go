package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"distfs/fetch"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A target is what the arguments of fetch-object and its like name.
type target struct {
	ref       locator.Reference
	mediaType string // as hinted, the only one to accept; "" for all
	size      int64  // as hinted; -1 where it was not
}

// targetArgs is the usage line's end of the commands that take a target.
const targetArgs = "REFERENCE | LOCATOR OBJECT [HINT…]"

// target parses args and says on standard error what a short form was taken for.
func (p *program) target(args []string) (target, error) {
	t, err := parseTarget(p.hosts, args)
	if err != nil {
		return target{}, err
	}
	full := t.ref.String()
	if len(args) > 1 {
		full = t.ref.Locator.String()
	}
	p.sayTaken(args[0], full)
	return t, nil
}

// parseTarget reads one argument as a REFERENCE, more as LOCATOR OBJECT HINT….
func parseTarget(hosts locator.Hosts, args []string) (target, error) {
	t := target{size: -1}
	var err error
	switch len(args) {
	case 0:
		return target{}, usagef("%s is missing", targetArgs)
	case 1:
		if hostAlone.MatchString(args[0]) {
			return target{}, usagef("%q is a host and a port: write %s/PATH:TAG or %s/PATH@DIGEST", args[0], args[0], args[0])
		}
		if t.ref, err = hosts.ParseReference(args[0]); err != nil {
			return target{}, &usageError{err}
		}
		return t, nil
	}
	if strings.Contains(args[1], "/") {
		return target{}, usagef("%q is not an object: the locator comes first, then TAG, DIGEST, @DIGEST or TAG@DIGEST", args[1])
	}
	if bareHex.MatchString(args[1]) {
		return target{}, usagef("%q is not a digest: write sha256:%s", args[1], args[1])
	}
	if t.ref.Locator, err = hosts.ParseLocator(args[0]); err != nil {
		return target{}, &usageError{err}
	}
	if t.ref.Tag, t.ref.Digest, err = locator.ParseObject(args[1]); err != nil {
		return target{}, &usageError{err}
	}
	for _, hint := range args[2:] {
		if err := t.hint(hint); err != nil {
			return target{}, usagef("hint %q: %w", hint, err)
		}
	}
	return t, nil
}

// What docker's grammar takes for a name and a tag, and nobody means so.
var (
	hostAlone = regexp.MustCompile(`^(localhost|[^/@]*\.[^/@]*):[0-9]+$`)
	bareHex   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// mediaType is RFC 6838's type and subtype.
var mediaType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$`)

// hint takes one KIND:VALUE.
func (t *target) hint(s string) error {
	kind, value, ok := strings.Cut(s, ":")
	switch {
	case !ok || kind != "mediatype" && kind != "size":
		return errors.New("there are mediatype:TYPE and size:N")
	case kind == "mediatype" && t.mediaType != "" || kind == "size" && t.size >= 0:
		return fmt.Errorf("a second %s", kind)
	case kind == "mediatype":
		if !mediaType.MatchString(value) {
			return errors.New("not a media type")
		}
		t.mediaType = value
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return errors.New("not a number of bytes")
	}
	t.size = int64(n)
	return nil
}

// describe asks what the target is. What the hints said must be so.
func (t *target) describe(ctx context.Context, f *fetch.Fetcher) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	var err error
	if t.ref.Digest != "" {
		desc, err = f.Stat(ctx, t.ref.Locator, ocispec.Descriptor{MediaType: t.mediaType, Digest: t.ref.Digest, Size: max(t.size, 0)})
	} else {
		desc, err = f.Resolve(ctx, t.ref, t.accept()...)
	}
	is := desc.MediaType
	if known, ok := f.Known(t.ref.Locator, t.ref.Digest); ok && t.ref.Digest != "" && known.MediaType != "application/octet-stream" {
		is = known.MediaType // desc has what was hinted
	}
	switch {
	case err != nil:
		return ocispec.Descriptor{}, t.named(err)
	case t.size >= 0 && t.size != desc.Size:
		return ocispec.Descriptor{}, fmt.Errorf("%s: its size is %d, and not %d", t.ref, desc.Size, t.size)
	case t.mediaType != "" && is != t.mediaType:
		return ocispec.Descriptor{}, fmt.Errorf("%s: it is of type %q, and not %q", t.ref, is, t.mediaType)
	}
	return desc, nil
}

func (t *target) accept() []string {
	if t.mediaType == "" {
		return nil
	}
	return []string{t.mediaType}
}

// named is err with the target's name before it, where err does not tell.
func (t *target) named(err error) error {
	object := t.ref.Digest.String()
	if object == "" {
		object = t.ref.String()
	}
	if strings.Contains(err.Error(), object) {
		return err
	}
	return fmt.Errorf("%s: %w", t.ref, err)
}
