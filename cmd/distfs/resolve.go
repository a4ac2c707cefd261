package main

import (
	"context"
	"errors"
	"fmt"

	"distfs/fetch"
	"distfs/locator"

	"github.com/spf13/cobra"
)

func (p *program) resolveCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "resolve " + targetArgs,
		Short: "Print what a reference stands for, by its digest",
		Long: `Print LOCATOR@DIGEST of what a reference stands for now, or with -o json its
descriptor. The registry is asked by HEAD and sends no content.

OBJECT is TAG, DIGEST, @DIGEST or TAG@DIGEST. A HINT is mediatype:TYPE, the one
type to ask for, or size:N in bytes.`,
		Args:              atLeast("REFERENCE or LOCATOR"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			return p.resolve(ctx, args, &out)
		}),
	}
	out.flag(cmd)
	return cmd
}

func (p *program) resolve(ctx context.Context, args []string, out *output) error {
	t, err := p.target(args)
	if err != nil {
		return err
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	f := p.fetcher(store, fetch.Options{})
	desc, err := t.describe(ctx, f)
	if err := errors.Join(err, f.Close(), store.Close()); err != nil {
		return err
	}
	if out.json() {
		return p.printJSON(desc)
	}
	_, err = fmt.Fprintln(p.stdout, locator.Reference{Locator: t.ref.Locator, Digest: desc.Digest})
	return err
}
