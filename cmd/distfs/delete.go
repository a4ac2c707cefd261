package main

import (
	"context"
	"errors"
	"fmt"

	"distfs/content"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (p *program) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete DIGEST…",
		Short: "Delete blobs of the store",
		Long: `Delete blobs of the store and print the digest of each that was deleted. One
that can't be deleted is told and the others are gone on with; the exit code is
then 1. Who has a deleted blob open reads on.`,
		Args:              atLeast("DIGEST"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              p.interruptible(p.delete),
	}
}

func (p *program) delete(ctx context.Context, args []string) error {
	digests := make([]digest.Digest, len(args))
	for i, arg := range args {
		var err error
		if digests[i], err = locator.ParseDigest(arg); err != nil {
			return &usageError{err}
		}
	}
	store, err := p.existing()
	if err != nil {
		return p.absent(digests[0], err)
	}
	var failed error
	for _, dgst := range digests {
		if err := p.deleteOne(ctx, store, dgst); err != nil {
			p.complain(err)
			failed = errSaid
		}
	}
	return errors.Join(failed, store.Close())
}

func (p *program) deleteOne(ctx context.Context, store *content.Store, dgst digest.Digest) error {
	err := ctx.Err()
	if err == nil {
		err = store.Delete(dgst)
	}
	if err != nil {
		return p.absent(dgst, err)
	}
	_, err = fmt.Fprintln(p.stdout, dgst)
	return err
}
