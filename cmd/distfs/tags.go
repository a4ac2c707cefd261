package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"

	"distfs/fetch"
	"distfs/locator"

	"github.com/spf13/cobra"
)

func (p *program) tagsCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "tags LOCATOR",
		Short: "Print the tags of a repository",
		Long: `Print the names of a repository's tags as its registry lists them, one a line,
or with -o json as one array. Below a mount the same list is LOCATOR/.tags.`,
		Args:              exactly("LOCATOR"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			return p.tags(ctx, args[0], &out)
		}),
	}
	out.flag(cmd)
	return cmd
}

func (p *program) tags(ctx context.Context, arg string, out *output) error {
	loc, err := p.hosts.ParseLocator(arg)
	if err != nil {
		return &usageError{err}
	}
	p.sayTaken(arg, loc.String())
	store, err := p.openStore()
	if err != nil {
		return err
	}
	f := p.fetcher(store, fetch.Options{})
	if out.json() {
		err = p.printTagArray(ctx, f, loc)
	} else {
		err = printTags(ctx, f, loc, p.stdout)
	}
	return errors.Join(err, f.Close(), store.Close())
}

// printTags prints names as they come. What came before an error is printed.
func printTags(ctx context.Context, f *fetch.Fetcher, loc locator.Locator, to *os.File) error {
	w := bufio.NewWriter(to)
	for tag, err := range f.ListTags(ctx, loc) {
		if err == nil {
			_, err = fmt.Fprintln(w, tag)
		}
		if err != nil {
			return errors.Join(err, w.Flush())
		}
	}
	return w.Flush()
}

// printTagArray prints a whole array or nothing.
func (p *program) printTagArray(ctx context.Context, f *fetch.Fetcher, loc locator.Locator) error {
	all := []string{}
	for tag, err := range f.ListTags(ctx, loc) {
		if err != nil {
			return err
		}
		all = append(all, tag)
	}
	return p.printJSON(all)
}
