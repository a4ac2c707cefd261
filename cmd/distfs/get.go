package main

import (
	"context"
	"os"

	"distfs/locator"

	"github.com/spf13/cobra"
)

func (p *program) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "get DIGEST",
		Short:             "Write a blob of the store to standard output",
		Args:              exactly("DIGEST"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              p.interruptible(p.get),
	}
}

func (p *program) get(_ context.Context, args []string) error {
	dgst, err := locator.ParseDigest(args[0])
	if err != nil {
		return &usageError{err}
	}
	store, err := p.existing()
	if err != nil {
		return p.absent(dgst, err)
	}
	defer store.Close()
	blob, err := store.Blob(dgst)
	if err != nil {
		return p.absent(dgst, err)
	}
	defer blob.Close()
	return p.sendAll(blob)
}

func (p *program) sendAll(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return send(p.stdout, f, 0, info.Size())
}
