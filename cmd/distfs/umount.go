package main

import (
	"context"
	"errors"
	"time"

	"distfs/fs"

	"github.com/spf13/cobra"
)

// endsWithin is how long a mount's process may take to end once nobody can ask it
// any more: it syncs what it has of the store. One that serves a copy of the mount
// elsewhere, in a container say, lives on.
const endsWithin = 10 * time.Second

func (p *program) umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "umount MOUNTPOINT",
		Aliases:           []string{"unmount"},
		Short:             "Unmount what distfs mounted, also where its process is dead",
		Args:              exactly("MOUNTPOINT"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: p.interruptible(func(_ context.Context, args []string) error {
			err := fs.Unmount(args[0], endsWithin)
			if on, ok := errors.AsType[*fs.ServesOnError](err); ok {
				p.complain(on) // and it is unmounted
				return nil
			}
			return err
		}),
	}
}
