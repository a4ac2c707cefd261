package main

import (
	"context"
	"errors"
	iofs "io/fs"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (p *program) deleteCommand() *cobra.Command {
	var out output
	var force bool
	cmd := &cobra.Command{
		Use:   "delete DIGEST|IMAGE…",
		Short: "Delete blobs of the store, or take images out of its list",
		Long: `Delete blobs of the store, and print the digest of each that was deleted, or take
images out of index.json, and print their names. What an image is made of stays
until it is pruned. One that can't be deleted is told and the others are gone on
with; the exit code is then 1. Who has a deleted blob open reads on. A blob that
is pinned, or that a pinned image or one in index.json is made of, is deleted only
with --force.

IMAGE is a name that "distfs images" lists, or a reference that means one, as
docker has it: redis is docker.io/library/redis:latest.`,
		Args:              atLeast("DIGEST or IMAGE"),
		ValidArgsFunction: p.completeStored,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			d := deletion{force: force}
			return p.printEach(ctx, args, &out, (*stored).String, d.one)
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete also what is pinned or belongs to an image")
	out.flag(cmd)
	return cmd
}

// A deletion is one run of delete.
type deletion struct {
	force  bool
	known  bool                       // the following are
	kept   map[digest.Digest]struct{} // what images and pins keep
	images map[digest.Digest]struct{} // of these, what images in index.json are made of
}

func (d *deletion) one(store *content.Store, o stored) error {
	if o.name == "" {
		return d.delete(store, o.digest)
	}
	d.known = false
	gone, err := store.RemoveImages(o.name)
	if err == nil && len(gone) == 0 {
		err = errors.New("it was taken out meanwhile")
	}
	return err
}

// delete deletes what nothing keeps. That a pin or an image comes at the same
// moment is left to who runs both.
func (d *deletion) delete(store *content.Store, dgst digest.Digest) error {
	if !d.force {
		if err := d.check(store, dgst); err != nil {
			return err
		}
	}
	err := store.Delete(dgst)
	aside := store.DropAside(dgst)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return aside
	case errors.Is(aside, iofs.ErrNotExist):
		return err
	}
	return errors.Join(err, aside)
}

// check says why dgst is to stay.
func (d *deletion) check(store *content.Store, dgst digest.Digest) error {
	pinned, err := store.Pinned(dgst)
	if err != nil {
		return err
	}
	if pinned {
		return errors.New("it is pinned: --force deletes it all the same")
	}
	if !d.known {
		if d.kept, err = store.Kept(); err != nil {
			return err
		}
		if d.images, err = store.Reachable(); err != nil {
			return err
		}
		d.known = true
	}
	if _, ok := d.images[dgst]; ok {
		return errors.New("an image in index.json is made of it: --force deletes it all the same")
	}
	if _, ok := d.kept[dgst]; ok {
		return errors.New("a pinned image is made of it: --force deletes it all the same")
	}
	return nil
}
