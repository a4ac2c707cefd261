package main

import (
	"context"
	"errors"
	iofs "io/fs"

	"distfs/content"

	"github.com/spf13/cobra"
)

func (p *program) pinCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "pin [DIGEST|IMAGE…]",
		Short: "Keep blobs and images from being evicted",
		Long: `Keep blobs from being evicted, by prune or by a mount with --max-size, until they
are unpinned, and print the digest of each. Of a manifest or an index all that it
names is kept, also what comes later. IMAGE is a name that "distfs images" lists;
what is pinned is the digest that it has now. Without an argument what is pinned
is listed.`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completeStored,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return p.pins(&out)
			}
			return p.printEach(ctx, args, &out, (*stored).dgst, func(store *content.Store, o stored) error { return store.Pin(o.digest) })
		}),
	}
	out.flag(cmd)
	return cmd
}

func (p *program) unpinCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "unpin DIGEST|IMAGE…",
		Short:             "Let what is pinned be evicted",
		Args:              atLeast("DIGEST or IMAGE"),
		ValidArgsFunction: p.completeStored,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			return p.printEach(ctx, args, &out, (*stored).dgst, func(store *content.Store, o stored) error {
				err := store.Unpin(o.digest)
				if errors.Is(err, iofs.ErrNotExist) {
					err = errors.New("it is not pinned")
				}
				return err
			})
		}),
	}
	out.flag(cmd)
	return cmd
}

// pins lists what is pinned.
func (p *program) pins(out *output) error {
	pinned, err := inStore(p, []storedName{}, pinnedIn)
	if err != nil {
		return err
	}
	if out.json() {
		return p.printJSON(pinned)
	}
	rows := make([][]string, len(pinned))
	for i, o := range pinned {
		rows[i] = []string{string(o.Digest), cell(o.Name)}
	}
	return p.printTable([]string{"DIGEST", "NAME"}, rows)
}

// pinnedIn returns what is pinned, once for each name that it has.
func pinnedIn(store *content.Store) ([]storedName, error) {
	digests, err := store.Pins()
	if err != nil {
		return nil, err
	}
	images, err := store.Images()
	if err != nil {
		return nil, err
	}
	all := []storedName{}
	for _, dgst := range digests {
		n := len(all)
		for _, m := range images {
			if m.Digest == dgst {
				all = append(all, storedName{imageName(m), dgst})
			}
		}
		if len(all) == n {
			all = append(all, storedName{Digest: dgst})
		}
	}
	return all, nil
}
