package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

func (p *program) fetchCommand() *cobra.Command {
	var flags struct {
		platforms    platforms
		allPlatforms bool
		referrers    bool
		progress     progressMode
	}
	cmd := &cobra.Command{
		Use:   "fetch " + targetArgs,
		Short: "Fetch all of an image into the store",
		Long: `Fetch everything of an image into the store, verified: its index, the chosen
platform's manifest, config and layers. Nothing is unpacked. What the store has
is not fetched again; what was interrupted goes on where it ended. Then the image
is in the store's index.json under its full name, where skopeo and umoci find it:

  distfs fetch redis:7
  skopeo inspect oci:$HOME/.cache/distfs:docker.io/library/redis:7

OBJECT is TAG, DIGEST, @DIGEST or TAG@DIGEST. A HINT is mediatype:TYPE, the one
type to ask for, or size:N in bytes. Printed is LOCATOR@DIGEST of what was named,
as by resolve.`,
		Example: `  distfs fetch --platform linux/amd64 --platform linux/arm64 redis:7
  distfs fetch ghcr.io/org/model v1`,
		Args:              atLeast("REFERENCE or LOCATOR"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(&flags.platforms, "platform", "of an index, fetch this one's image, and of each other that is given (default the host's); refuse an image that is for another")
	f.BoolVar(&flags.allPlatforms, "all-platforms", false, "of an index, fetch everything")
	f.BoolVar(&flags.referrers, "referrers", false, "fetch what refers to the image too: signatures, SBOMs, attestations")
	flags.progress.flag(cmd)
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		if flags.allPlatforms && len(flags.platforms) > 0 {
			return usagef("--platform and --all-platforms: give one of them")
		}
		opts := &transfer.FetchOptions{Platforms: flags.platforms, AllPlatforms: flags.allPlatforms}
		return p.transfer("fetch", args, args, false, &flags.progress, func(src *imageSource, report transfer.Report) (ocispec.Descriptor, error) {
			opts.Report, opts.Other = report, src.isOther
			if flags.referrers {
				opts.Referrers = src.f.Referrers
			}
			return transfer.Fetch(ctx, src, src.target.ref, opts)
		})
	})
	return cmd
}

// transfer has work bring the image that target names into the store, while
// others see it, and prints what the image is. args are those of the command.
func (p *program) transfer(command string, args, target []string, offline bool, mode *progressMode, work func(*imageSource, transfer.Report) (ocispec.Descriptor, error)) error {
	boundMemory()
	t, err := p.target(target)
	if err != nil {
		return err
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	report, finish := p.progress(mode, t.ref.String())
	f := p.fetcher(store, fetch.Options{Offline: offline, FillBelow: math.MaxInt64, TakeWord: true, Bulk: true})
	control := p.attend(store, f.Active, command+" "+strings.Join(args, " "))
	src := &imageSource{f: f, store: store, target: &t, offline: offline}
	desc, err := work(src, report)
	control.close()
	err = errors.Join(err, f.Close(), store.Close())
	finish(err)
	if err != nil {
		return err
	}
	if src.other != nil {
		p.log.Warn("the image is for another platform than this machine's", "image", t.ref.String(), "platform", src.other.String())
	}
	_, err = fmt.Fprintln(p.stdout, locator.Reference{Locator: t.ref.Locator, Digest: desc.Digest})
	return err
}

var _ = transfer.Source((*imageSource)(nil))

// An imageSource brings one image into the store.
type imageSource struct {
	f      *fetch.Fetcher
	store  *content.Store
	target *target

	offline bool
	other   *platform // of the image; nil is this machine's, or one that was asked for
}

func (s *imageSource) isOther(p ocispec.Platform) { s.other = (*platform)(&p) }

// Resolve asks what the target is, which is the one reference that it is asked for.
func (s *imageSource) Resolve(ctx context.Context, _ locator.Reference) (ocispec.Descriptor, error) {
	return s.target.describe(ctx, s.f)
}

// Open opens an object.
func (s *imageSource) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (transfer.Object, error) {
	obj, err := s.f.Open(ctx, loc, desc)
	if err != nil {
		return nil, err
	}
	return imageObject{obj}, nil
}

// Answered asks loc's repository about what another one's fetch brought; where it
// lacks a foreign layer, as it may, one of the layer's urls answers for it.
func (s *imageSource) Answered(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) error {
	if _, known := s.f.Known(loc, desc.Digest); known {
		return nil
	}
	got, err := s.f.Stat(ctx, loc, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, URLs: desc.URLs})
	if err == nil && got.Size != desc.Size {
		err = fmt.Errorf("%s@%s: its size is %d there, and not %d", loc, desc.Digest, got.Size, desc.Size)
	}
	return err
}

// Local returns how many bytes of an object are here.
func (s *imageSource) Local(loc locator.Locator, dgst digest.Digest) int64 {
	n, _ := s.f.Local(loc, dgst)
	return n
}

// Hold keeps an object from being evicted.
func (s *imageSource) Hold(dgst digest.Digest) (release func(), err error) { return s.store.Hold(dgst) }

// Image returns what has a name in index.json.
func (s *imageSource) Image(name string) (ocispec.Descriptor, bool, error) {
	images, err := s.store.Images()
	for _, image := range images {
		if imageName(image) == name {
			return image, true, err
		}
	}
	return ocispec.Descriptor{}, false, err
}

// SetImages enters images into index.json. Where that can't be written, what it
// has need not be, and names are nothing that was asked for offline.
func (s *imageSource) SetImages(images ...ocispec.Descriptor) error {
	err := s.store.SetImages(images...)
	if errors.Is(err, syscall.EROFS) && (s.offline || s.named(images)) {
		return nil
	}
	return err
}

// named says whether index.json has all of images under their names.
func (s *imageSource) named(images []ocispec.Descriptor) bool {
	for _, image := range images {
		is, ok, err := s.Image(imageName(image))
		if err != nil || !ok || is.Digest != image.Digest {
			return false
		}
	}
	return true
}

// An imageObject is an object whose progress is told in transfer's words.
type imageObject struct{ *fetch.Object }

func (o imageObject) Progress() (transfer.State, int64) {
	p := o.Object.Progress()
	return transfer.State(p.State), p.Here
}
