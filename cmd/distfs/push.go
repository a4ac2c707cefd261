package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"

	"distfs/content"
	"distfs/fetch"
	"distfs/image"
	"distfs/locator"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

func (p *program) pushCommand() *cobra.Command {
	var flags struct {
		platform     platform
		allPlatforms bool
		progress     progressMode
	}
	cmd := &cobra.Command{
		Use:   "push SRC DST",
		Short: "Push an image to a registry or into an OCI image layout",
		Long: `Push an image: what DST lacks of its layers and configs, then its manifest, and
then DST's tag. What is there is not sent; what another repository of the same
registry is known to have is taken over from there. After a cut an upload goes
on where the registry has it; push that was interrupted sends what is missing.

SRC is an image of the store, by its name in the store's index.json or by its
digest, or oci:DIR[:NAME], one of an OCI image layout. DST is a REFERENCE, which
is also written HOST/PATH@DIGEST where it is to have no tag, or oci:DIR[:NAME],
a directory that is made where it is absent; without NAME the image has the name
there that it has in SRC. DIR ends at the first colon.

Of an index the image for --platform alone is pushed, unless --all-platforms.
Layers that are not for others to distribute are left out. Printed is
LOCATOR@DIGEST of what was pushed; into a layout, the digest.`,
		Example: `  distfs push docker.io/library/redis:7 registry.example.com/mirror/redis:7
  distfs push --all-platforms oci:build:v1 ghcr.io/org/app:v1
  distfs push redis:7 oci:/srv/images:redis`,
		Args:              exactly("SRC", "DST"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(&flags.platform, "platform", "of an index, push this one's image (default the host's); refuse an image that is for another")
	f.BoolVar(&flags.allPlatforms, "all-platforms", false, "of an index, push everything, and it itself")
	flags.progress.flag(cmd)
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		if flags.allPlatforms && flags.platform.OS != "" {
			return usagef("--platform and --all-platforms: give one of them")
		}
		return p.push(ctx, args[0], args[1], &flags.progress, &transfer.PushOptions{Platform: ocispec.Platform(flags.platform), AllPlatforms: flags.allPlatforms})
	})
	return cmd
}

// push pushes the image that from names to what to names.
func (p *program) push(ctx context.Context, from, to string, mode *progressMode, opts *transfer.PushOptions) (err error) {
	boundMemory()
	if _, file, ok := archiveArg(from); ok {
		return usagef("push %s: it reads no archive: distfs import %s takes its images into the store", from, file)
	}
	if format, file, ok := archiveArg(to); ok {
		return usagef("push to %s: it writes no archive: write distfs export --format %s %s %s", to, format, from, file)
	}
	dst, err := p.parsePushed(to)
	if err != nil {
		return err
	}
	src, err := p.openSource(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	dst.nameAfter(src)
	opts.Label, opts.Digest = dst.label, dst.ref.Digest
	var finish func(error)
	opts.Report, finish = p.progress(mode, dst.name) // before dst is opened, whose log is to stand above the bars
	command := "push " + from + " " + to
	if err := dst.open(p, src, command); err != nil {
		finish(err)
		return err
	}
	if dst.dir != "" && src.store != nil { // else open has others see it, or there is no store
		var seen seen
		opts.Report = seen.report(opts.Report)
		defer p.attend(src.store, seen.active, command).close()
	}
	pushed, err := transfer.Push(ctx, src.shelf, src.desc, dst, opts)
	err = errors.Join(err, dst.close())
	finish(err)
	if _, absent := errors.AsType[*transfer.AbsentError](err); absent && src.store != nil {
		err = fmt.Errorf("%w: %s", err, mending)
	}
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if pushed.Images > 1 {
		chosen := platform(opts.Platform)
		if chosen.OS == "" {
			chosen = platform(image.HostPlatform())
		}
		p.say(fmt.Sprintf("of the index's %d images the one for %s was pushed: --all-platforms pushes all", pushed.Images, chosen.String()))
	}
	_, err = fmt.Fprintln(p.stdout, dst.printed(pushed.Desc.Digest))
	return err
}

var _ transfer.Holder = (*content.Store)(nil)

// A pushSource is an image of the store or of a layout.
type pushSource struct {
	shelf transfer.Shelf
	desc  ocispec.Descriptor
	name  string // "" if it has none
	store *content.Store
	close func() error
}

func (p *program) openSource(arg string) (*pushSource, error) {
	dir, name, isLayout, err := layoutArg(arg)
	if err != nil {
		return nil, err
	}
	if !isLayout {
		return p.openStored(arg)
	}
	l, err := content.OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	src := &pushSource{shelf: l, close: l.Close}
	if src.desc, err = l.Image(name); err != nil {
		l.Close()
		return nil, err
	}
	src.name = imageName(src.desc)
	return src, nil
}

func (p *program) openStored(arg string) (*pushSource, error) {
	if err := p.checkStored(arg); err != nil {
		return nil, err
	}
	store, err := p.existing()
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no store %s, and so no image", arg, p.flags.store)
	}
	if err != nil {
		return nil, err
	}
	src := &pushSource{shelf: store, store: store, close: store.Close}
	if src.desc, err = p.storedImage(store, arg); err != nil {
		store.Close()
		return nil, err
	}
	src.name = imageName(src.desc)
	return src, nil
}

// A pushTarget is where an image is pushed to.
type pushTarget struct {
	transfer.Destination
	name  string            // as the user is told
	label string            // of what is there, before @DIGEST
	ref   locator.Reference // of a repository
	dir   string            // of a layout; "" for a repository
	tag   string            // and the image's name in it
	close func() error
}

// parsePushed reads DST, and says on standard error what a short form was taken
// for.
func (p *program) parsePushed(arg string) (*pushTarget, error) {
	dir, name, isLayout, err := layoutArg(arg)
	if err != nil {
		return nil, err
	}
	if isLayout {
		return &pushTarget{name: arg, label: "oci:" + dir, dir: dir, tag: name}, nil
	}
	t, err := p.target([]string{arg})
	if err != nil {
		return nil, err
	}
	return &pushTarget{name: t.ref.String(), label: t.ref.Locator.String(), ref: t.ref}, nil
}

// nameAfter gives the image the name in a layout that it has in src, unless it has
// one.
func (t *pushTarget) nameAfter(src *pushSource) {
	if t.dir != "" && t.tag == "" && src.name != "" {
		t.tag = src.name
		t.name += ":" + t.tag
	}
}

func (t *pushTarget) open(p *program, src *pushSource, command string) error {
	if t.dir != "" {
		l, err := content.CreateLayout(t.dir)
		if err != nil {
			return err
		}
		t.Destination, t.close = l.Into(t.tag), l.Close
		return nil
	}
	store, ownStore := src.store, func() error { return nil }
	if store == nil { // what the registry answers is kept there
		var err error
		if store, err = p.openStore(); err != nil {
			return err
		}
		ownStore = store.Close
	}
	f := p.fetcher(store, fetch.Options{})
	pusher, err := f.Pusher(t.ref)
	if err != nil {
		return errors.Join(err, f.Close(), ownStore())
	}
	control := p.attend(store, f.Active, command)
	t.Destination = pusher
	t.close = func() error {
		control.close()
		return errors.Join(f.Close(), ownStore())
	}
	return nil
}

// printed is how dgst is told on standard output.
func (t *pushTarget) printed(dgst digest.Digest) string {
	if t.dir != "" {
		return dgst.String()
	}
	return strings.TrimSuffix(t.label, "/") + "@" + dgst.String()
}
