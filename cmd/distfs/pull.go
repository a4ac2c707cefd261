package main

import (
	"context"
	"fmt"
	"strings"

	"distfs/transfer"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

func (p *program) pullCommand() *cobra.Command {
	var most size
	var offline bool
	var mode progressMode
	var chosen platform
	cmd := &cobra.Command{
		Use:   "pull REFERENCE DIR",
		Short: "Fetch an image and unpack its root file system into a directory",
		Long: `Fetch an image into the store, as fetch does, and unpack its root file system
into DIR, as unpack does each of its layers. Layers are unpacked while they and
others arrive. DIR is made if it is absent; what else is in it stays. What was
interrupted, doing it once more finishes.

Who is not root owns all files and gets no devices; standard error says what was
left out. Printed is LOCATOR@DIGEST of what was named, as by resolve.

  distfs pull redis:7 rootfs`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return fmt.Errorf("DIR is missing: distfs fetch %s brings an image into the store alone", args[0])
			}
			if err := exactly("REFERENCE", "DIR")(cmd, args); err != nil {
				return err
			}
			_, _, archive := archiveArg(args[1])
			if archive || strings.HasPrefix(args[1], "oci:") {
				return fmt.Errorf("pull to %s: it unpacks into a directory: distfs fetch %s, and then distfs export writes a layout or an archive", args[1], args[0])
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(&chosen, "platform", "choose this one's image of an index (default the host's); refuse an image that is for another")
	f.Var(&most, "max-unpacked", "refuse a layer whose tar is longer, as it is when decompressed; 0 means as many bytes as DIR's file system has")
	f.BoolVar(&offline, "offline", false, "send nothing: unpack what fetch, pull or import brought into the store")
	mode.flag(cmd)
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		opts := &transfer.PullOptions{Platform: ocispec.Platform(chosen), Unpack: transfer.UnpackOptions{MaxBytes: int64(most)}}
		var losses transfer.Losses
		err := p.transfer("pull", args, args[:1], offline, &mode, func(src *imageSource, report transfer.Report) (ocispec.Descriptor, error) {
			opts.Report, opts.Other = report, src.isOther
			pulled, err := transfer.Pull(ctx, src, src.target.ref, args[1], opts)
			losses = pulled.Losses
			return pulled.Desc, limitOf(err, int64(most))
		})
		if err == nil {
			p.sayLosses(losses)
		}
		return err
	})
	return cmd
}
