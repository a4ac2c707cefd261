package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distfs/content"
	"distfs/image"
	"distfs/transfer"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

var _ transfer.Answerer = (*content.Store)(nil)

// The formats of export.
const (
	formatLayout = "oci"
	formatOCI    = "oci-archive"
	formatDocker = "docker-archive"
)

func (p *program) exportCommand() *cobra.Command {
	format := choice{"", []string{formatLayout, formatOCI, formatDocker}}
	var only platform
	cmd := &cobra.Command{
		Use:   "export NAME… oci:DIR|DIR|FILE|-",
		Short: "Write images of the store as an archive or a layout",
		Long: `Write images of the store into one OCI image layout, DIR, or into one archive,
FILE or, for -, standard output. Nothing is fetched: an image is in the store
when fetch, pull or import brought it there. NAME is that of an image of the
store, or the digest of one, alone or as HOST/PATH@DIGEST. Layers that are not for
others to distribute are left out, but for docker. The same images are the same bytes.

oci             an OCI image layout; what is in DIR already stays
oci-archive     a layout in a tar: for skopeo, podman, docker load of today
docker-archive  as docker save has it: for docker load, of one platform

Without --format a directory, oci:DIR and DIR/ get a layout, all else an OCI
archive. DIR is made if it is absent.

With --platform the image for it goes alone, under the name that the image for
several platforms has; an image that is for another platform is refused. A docker-archive has one anyway: this machine's.

  distfs export redis:7 redis.tar
  distfs export redis:7 team/app:v1 oci:images
  distfs export --format docker-archive redis:7 team/app:v1 - | docker load`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("%s is missing", []string{"NAME", "DIR, FILE or -"}[len(args)])
			}
			return nil
		},
	}
	cmd.Flags().Var(&format, "format", "write oci, oci-archive or docker-archive")
	cmd.Flags().Var(&only, "platform", "of an image for several platforms, export this one's alone (docker-archive: default this machine's)")
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		boundMemory()
		to, err := parseExportTarget(args[len(args)-1], format.value)
		if err != nil {
			return err
		}
		return p.export(ctx, args, to, ocispec.Platform(only))
	})
	return cmd
}

// An exportTarget is what images are exported into.
type exportTarget struct {
	arg    string
	path   string // of the directory or file; "-" is standard output
	format string
	absent bool // nothing is at path yet
}

// parseExportTarget reads oci:DIR, DIR, FILE or -.
func parseExportTarget(arg, format string) (exportTarget, error) {
	if archive, file, ok := archiveArg(arg); ok {
		return exportTarget{}, usagef("export %s: write --format %s … %s", arg, archive, file)
	}
	dir, name, isLayout, err := layoutArg(arg)
	if err != nil {
		return exportTarget{}, err
	}
	if name != "" {
		return exportTarget{}, usagef("%s: images are exported under their own names: oci:DIR; distfs push gives one another", arg)
	}
	t := exportTarget{arg: arg, path: arg, format: format}
	if isLayout {
		t.path = dir
	}
	if arg != "-" {
		var info os.FileInfo
		info, err = os.Stat(t.path)
		t.absent = errors.Is(err, iofs.ErrNotExist)
		isLayout = isLayout || err == nil && info.IsDir() || strings.HasSuffix(arg, "/")
	}
	switch {
	case format == "" && isLayout:
		t.format = formatLayout
	case format == "":
		t.format = formatOCI
	case format == formatLayout && arg == "-" || format != formatLayout && isLayout:
		return exportTarget{}, usagef("%s is no place for --format %s", arg, format)
	}
	return t, nil
}

// maybeName says whether the last argument may be a NAME behind which the place
// was forgotten.
func (t *exportTarget) maybeName() bool {
	return t.absent && t.path == t.arg && !strings.HasSuffix(t.arg, "/")
}

// hasPlace says whether what is absent could be made.
func (t *exportTarget) hasPlace() error {
	if !t.absent {
		return nil
	}
	parent := filepath.Dir(filepath.Clean(t.path))
	info, err := os.Stat(parent)
	switch {
	case err != nil:
		return fmt.Errorf("%s: directory %s: %w", t.arg, parent, bareError(err))
	case !info.IsDir():
		return fmt.Errorf("%s: %s is no directory", t.arg, parent)
	}
	return nil
}

// export exports the images that args name but for the last, which is to. Where
// only is not the zero value it is the one for that platform of each.
func (p *program) export(ctx context.Context, args []string, to exportTarget, only ocispec.Platform) (err error) {
	names := args[:len(args)-1]
	if err := p.checkStored(names...); err != nil {
		return err
	}
	store, err := p.existing()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if to.maybeName() && p.isStored(store, to.arg) {
		return usagef("DIR, FILE or - is missing: %s is an image of the store; a file of that name is ./%s", to.arg, to.arg)
	}
	if err := to.hasPlace(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	images, err := p.exported(store, names, only)
	if err != nil {
		return err
	}
	e, err := transfer.NewExport(ctx, store, images...)
	if err != nil {
		return fmt.Errorf("export: %w", mendable(err, iofs.ErrNotExist))
	}
	defer e.Release()
	var seen seen
	e.Report = seen.report(nil)
	defer p.attend(store, seen.active, "export "+strings.Join(args, " ")).close()
	if err := p.writeExport(ctx, e, to, only); err != nil {
		return fmt.Errorf("export: %w", mendable(err, transfer.ErrDamaged))
	}
	return nil
}

// isStored says whether arg means an image of the store.
func (p *program) isStored(store *content.Store, arg string) bool {
	_, err := p.storedImage(store, arg)
	return err == nil
}

// mendable adds to an error of that kind what can be done about it. That there
// is nothing for a platform nobody mends.
func mendable(err, kind error) error {
	if _, other := errors.AsType[*image.PlatformError](err); errors.Is(err, kind) && !other {
		return fmt.Errorf("%w: %s", err, mending)
	}
	return err
}

const mending = "distfs verify --repair or distfs fetch brings it back"

func (p *program) writeExport(ctx context.Context, e *transfer.Export, to exportTarget, only ocispec.Platform) error {
	switch to.format {
	case formatLayout:
		l, err := content.CreateLayout(to.path)
		if err != nil {
			return err
		}
		return errors.Join(e.Layout(ctx, l), l.Close())
	case formatOCI:
		return p.writeArchive(to.path, func(w io.Writer) error { return e.OCIArchive(ctx, w) })
	}
	if only.OS == "" {
		only = image.HostPlatform()
	}
	return p.writeArchive(to.path, func(w io.Writer) error { return e.DockerArchive(ctx, w, only) })
}

// exported finds images of the store by their names, and says what a short form
// was taken for.
func (p *program) exported(store *content.Store, names []string, only ocispec.Platform) ([]transfer.Named, error) {
	var list []transfer.Named
	for _, arg := range names {
		one, err := p.exportedImage(store, arg)
		if err != nil {
			return nil, err
		}
		if only.OS != "" {
			if one.Desc, err = transfer.ForPlatform(store, one.Desc, only); err != nil {
				return nil, fmt.Errorf("export: image %s: %w", one, mendable(err, iofs.ErrNotExist))
			}
		}
		taken := slices.ContainsFunc(list, func(other transfer.Named) bool {
			return other.Name == one.Name && other.Desc.Digest == one.Desc.Digest
		})
		if !taken {
			list = append(list, one)
		}
	}
	return list, nil
}

// exportedImage finds what arg means, as push does. What is known by its digest
// alone has the name in which that stands, or none.
func (p *program) exportedImage(store *content.Store, arg string) (transfer.Named, error) {
	desc, err := p.storedImage(store, arg)
	if err != nil {
		return transfer.Named{}, err
	}
	one := transfer.Named{Name: imageName(desc), Desc: desc}
	if ref, err := p.hosts.ParseReference(arg); err == nil && one.Name == "" && !looksLikeDigest(arg) {
		one.Name = ref.String()
	}
	if one.Name != "" {
		p.sayTaken(arg, one.Name)
	}
	return one, nil
}

// writeArchive has write write to a file, which is there wholly or not at all,
// or to what is no file.
func (p *program) writeArchive(to string, write func(io.Writer) error) (err error) {
	if to == "-" {
		if isTerminal(p.stdout) {
			return usagef("standard output is a terminal: name a file")
		}
		return write(p.stdout)
	}
	if info, err := os.Stat(to); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(to, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	return content.ReplaceFile(to, write)
}
