package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"distfs/layer"
	"distfs/transfer"

	"github.com/spf13/cobra"
)

func (p *program) unpackCommand() *cobra.Command {
	var most size
	cmd := &cobra.Command{
		Use:   "unpack DIR [flags] < LAYER",
		Short: "Unpack a layer from standard input into a directory",
		Long: `Unpack a layer, a tar as it is or compressed by gzip or zstd, from standard input
into DIR, as a runtime does it: what its whiteouts name is removed from DIR, and
owners, modes, times, extended attributes and devices are the layer's. Nothing
outside of DIR is touched. An image's layers are unpacked lowest first. If that
was interrupted, doing it once more, from the first, gives the same tree.

Who is not root owns all files and gets no devices; standard error says what was
left out.

  distfs get sha256:a2318d… | distfs unpack rootfs`,
		Args:              exactly("DIR"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	}
	cmd.Flags().Var(&most, "max-unpacked", "refuse a layer whose tar is longer, as it is when decompressed; 0 means as many bytes as DIR's file system has")
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error {
		return p.unpack(ctx, args[0], int64(most))
	})
	return cmd
}

func (p *program) unpack(ctx context.Context, dir string, most int64) error {
	boundMemory()
	if isTerminal(os.Stdin) {
		return usagef("no layer: standard input is a terminal")
	}
	u, err := transfer.NewUnpacker(dir, &transfer.UnpackOptions{MaxBytes: most})
	if err != nil {
		return err
	}
	defer u.Close()
	in, err := newInput(ctx, os.Stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := u.Layer(ctx, in); err != nil {
		return fmt.Errorf("unpack: %w", limitOf(err, most))
	}
	p.sayLosses(u.Losses())
	return nil
}

// limitOf says whose limit it is that err is about, if it is about one.
func limitOf(err error, most int64) error {
	if _, ok := errors.AsType[*layer.SizeError](err); !ok {
		return err
	}
	if most > 0 {
		return fmt.Errorf("%w, which is the limit by --max-unpacked", err)
	}
	return fmt.Errorf("%w, which is all that the directory's file system has; --max-unpacked sets another limit", err)
}

// sayLosses says what an unpacked tree lacks, a line for each kind.
func (p *program) sayLosses(l transfer.Losses) {
	if l.Owners > 0 {
		p.say(fmt.Sprintf("files that belong to you, as only root may give them to their owners: %d", l.Owners))
	}
	if l.Devices > 0 {
		p.say(fmt.Sprintf("devices left out, as only root may make them: %d", l.Devices))
	}
	if l.Dirs > 0 {
		p.say(fmt.Sprintf("directories that keep their modes and times, as they are somebody else's: %d", l.Dirs))
	}
	if l.Xattrs > 0 {
		p.say(fmt.Sprintf("extended attributes left out: %d, the first %s", l.Xattrs, l.Xattr))
	}
}
