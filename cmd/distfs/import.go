package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"distfs/locator"
	"distfs/transfer"

	"github.com/spf13/cobra"
)

func (p *program) importCommand() *cobra.Command {
	var name string
	var out output
	cmd := &cobra.Command{
		Use:   "import oci:DIR[:NAME] | FILE | -",
		Short: "Take images out of an archive or a layout into the store",
		Long: `Take the images of an OCI image layout, of an OCI archive, or of an archive of
docker save into the store, and print name and digest of each. What a file is,
and whether gzip or zstd compressed it, is told by its content; - is standard
input. DIR ends at the first colon.

The images have the names that they have there, as docker reads a name. One
without a name, or with a tag alone, is given one by --name. A layout's images
are all taken, or the one of NAME. Where an archive has an index, but not the
images for all its platforms, those that it has are taken, the one for this
machine under the index's name.

  docker save redis:7 | distfs import -
  distfs import --name registry.example/team/app:v1 oci:build:latest`,
		Args: exactly("oci:DIR[:NAME], FILE or -"),
	}
	cmd.Flags().StringVar(&name, "name", "", "enter the one image under the name `REFERENCE`")
	out.flag(cmd)
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		boundMemory()
		return p.importImages(ctx, args[0], name, &out)
	})
	return cmd
}

func (p *program) importImages(ctx context.Context, from, name string, out *output) (err error) {
	var as *locator.Reference
	if name != "" {
		ref, err := p.hosts.ParseReference(name)
		if err != nil {
			return &usageError{err}
		}
		as = &ref
		p.sayTaken(name, ref.String())
	}
	if _, file, ok := archiveArg(from); ok {
		return usagef("import %s: its content tells what a file is: write %s", from, file)
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	in := &incoming{Store: store}
	defer p.attend(store, in.active, "import "+from).close()
	im, err := p.bringIn(ctx, in, from)
	if err != nil {
		return fmt.Errorf("import %s: %w", from, err)
	}
	defer im.Release()
	if im.Unnamed > 0 {
		p.say(fmt.Sprintf("import %s: images passed over, for they have no name and others have: %d", from, im.Unnamed))
	}
	entries, err := p.name(im, as)
	if err != nil {
		return fmt.Errorf("import %s: %w", from, err)
	}
	if err := enter(ctx, store, entries); err != nil {
		return fmt.Errorf("import %s: %w", from, err)
	}
	return p.printEntries(entries, out)
}

// bringIn reads what from names into the store.
func (p *program) bringIn(ctx context.Context, store *incoming, from string) (*transfer.Import, error) {
	dir, pick, isLayout, err := layoutArg(from)
	if err != nil {
		return nil, err
	}
	if isLayout {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		return transfer.ImportLayout(ctx, store, dir, pick)
	}
	f := os.Stdin
	if from != "-" {
		if f, err = os.Open(from); err != nil {
			return nil, bareError(err)
		}
		defer f.Close()
	} else if isTerminal(f) {
		return nil, usagef("no archive: standard input is a terminal")
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, bareError(err)
	case from != "-" && info.IsDir():
		return nil, usagef("it is a directory: write oci:%s", from)
	}
	label, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	if from == "-" {
		label = "standard input"
	}
	if store.own = from == "-" || !info.Mode().IsRegular(); store.own { // another's pipe brings something else
		label += " " + rand.Text()
	}
	in, err := newInput(ctx, f)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return transfer.ImportArchive(ctx, store, in, label)
}

// bareError is err without the path, which who asked for it knows.
func bareError(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}
