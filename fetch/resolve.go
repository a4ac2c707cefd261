package fetch

import (
	"context"
	"fmt"
	iofs "io/fs"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolve tells what ref names, asking ref's remote: by HEAD, which registries
// do not count as a pull. Where ref has a digest its tag is ignored. accept are
// the media types that will do, nil for all. Offline it is what was resolved
// last. The error is iofs.ErrNotExist if there is no such object.
func (f *Fetcher) Resolve(ctx context.Context, ref locator.Reference, accept ...string) (ocispec.Descriptor, error) {
	if ref.Digest != "" {
		hint := ocispec.Descriptor{Digest: ref.Digest}
		if len(accept) == 1 {
			hint.MediaType = accept[0]
		}
		return f.Stat(ctx, ref.Locator, hint)
	}
	if f.opts.Offline {
		desc, _, err := f.store.Tag(repo(ref.Locator), ref.Tag)
		if err != nil {
			return desc, fmt.Errorf("%s: offline: %w", ref, err)
		}
		return desc, nil
	}
	desc, err := f.ask(ctx, ref, accept, ocispec.Descriptor{})
	if err != nil {
		return desc, err
	}
	if err := f.store.SetTag(repo(ref.Locator), ref.Tag, desc); err != nil && !f.sayFull(err) {
		f.opts.Log.Warn("tag not kept", "reference", ref.String(), "err", err)
	}
	return desc, nil
}

// Stat tells an object's size and media type: as its repository answered
// before, else as hint says, else by asking. hint's digest is needed; its
// media type says where to ask, and its urls are where a foreign layer lies that
// the repository lacks.
func (f *Fetcher) Stat(ctx context.Context, loc locator.Locator, hint ocispec.Descriptor) (ocispec.Descriptor, error) {
	if _, ok := f.answered(loc, hint.Digest); !ok && hint.Size > 0 && hint.MediaType != "" {
		return hint, nil
	}
	return f.vouched(ctx, loc, hint)
}

// vouched is Stat that does not take hint's word.
func (f *Fetcher) vouched(ctx context.Context, loc locator.Locator, hint ocispec.Descriptor) (ocispec.Descriptor, error) {
	if desc, ok := f.answered(loc, hint.Digest); ok && !unknownSize(desc) {
		if hint.MediaType != "" {
			desc.MediaType = hint.MediaType
		}
		return desc, nil
	}
	ref := locator.Reference{Locator: loc, Digest: hint.Digest}
	if f.opts.Offline {
		return hint, fmt.Errorf("%s: offline: %w", ref, iofs.ErrNotExist)
	}
	var accept []string
	if hint.MediaType != "" {
		accept = []string{hint.MediaType}
	}
	desc, err := f.ask(ctx, ref, accept, hint)
	if err == nil && hint.MediaType != "" {
		desc.MediaType = hint.MediaType
	}
	return desc, err
}

// maxSize is the largest object that the store takes, in bytes.
const maxSize = 16 << 40

// ask asks ref's remote and keeps its answer. hint is what is said of a digest.
func (f *Fetcher) ask(ctx context.Context, ref locator.Reference, accept []string, hint ocispec.Descriptor) (ocispec.Descriptor, error) {
	remote, err := f.remotes.of(ref.Host)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.opts.Timeout, errStalled(f.opts.Timeout))
	defer cancel()
	defer f.asks.begin(ref)()
	resolve := func() (ocispec.Descriptor, error) { return remote.Resolve(ctx, ref, accept) }
	if r, ok := remote.(*foreign); ok && isForeign(hint) {
		resolve = func() (ocispec.Descriptor, error) { return r.resolveNamed(ctx, ref, hint, accept) }
	}
	var desc ocispec.Descriptor
	for patience := newPatience(f.opts.Timeout); ; {
		desc, err = resolve()
		if err = kind(ctx, err); err == nil {
			break
		}
		if d, ok := patience.pause(ctx, err); !ok || !sleep(ctx, d) {
			return desc, fmt.Errorf("%s: %w", ref, err)
		}
	}
	if unknownSize(desc) || desc.Size > maxSize {
		return desc, broken("%s: a size of %d", ref, desc.Size)
	}
	if isForeign(hint) {
		desc.MediaType = hint.MediaType // by which it is told whose bytes there may be
	}
	f.record(ref.Locator, desc)
	return desc, nil
}

// Known tells what is known of an object without asking anybody: that loc's
// repository answered for it. Offline it must be here, too, at least in part.
func (f *Fetcher) Known(loc locator.Locator, dgst digest.Digest) (ocispec.Descriptor, bool) {
	desc, ok := f.answered(loc, dgst)
	if ok && f.opts.Offline && !f.holds(loc, dgst) {
		return ocispec.Descriptor{}, false
	}
	return desc, ok
}

// Tags tells the tags of loc that were resolved before, without asking.
func (f *Fetcher) Tags(loc locator.Locator) (map[string]ocispec.Descriptor, error) {
	return f.store.Tags(repo(loc))
}
