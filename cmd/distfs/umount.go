package main

import (
	"context"

	"distfs/fs"

	"github.com/spf13/cobra"
)

func (p *program) umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "umount MOUNTPOINT",
		Aliases: []string{"unmount"},
		Short:   "Unmount what distfs mounted, also where its process is dead",
		Args:    exactly("MOUNTPOINT"),
		RunE: p.interruptible(func(_ context.Context, args []string) error {
			return fs.Unmount(args[0])
		}),
	}
}
