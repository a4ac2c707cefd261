package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (p *program) listCommand() *cobra.Command {
	var out output
	var quiet bool
	cmd := &cobra.Command{
		Use:               "list",
		Aliases:           []string{"ls"},
		Short:             "List the blobs that the store holds",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(context.Context, []string) error {
			return p.list(&out, quiet)
		}),
	}
	out.flag(cmd)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digests alone")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if f := cmd.Flags(); f.Changed("quiet") && f.Changed("output") {
			return errors.New("--quiet and --output exclude each other")
		}
		return nil
	}
	return cmd
}

// A listed blob is what list prints of it for programs.
type listed struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`
	Updated *time.Time    `json:"updated,omitempty"` // when it was complete
}

func (p *program) list(out *output, quiet bool) error {
	blobs, err := inStore(p, nil, (*content.Store).Blobs)
	switch {
	case err != nil:
		return err
	case quiet:
		var b strings.Builder
		for _, info := range blobs {
			fmt.Fprintln(&b, info.Digest)
		}
		_, err := p.stdout.WriteString(b.String())
		return err
	case out.json():
		all := make([]listed, len(blobs))
		for i, info := range blobs {
			all[i] = listed{info.Digest, info.Size, stamp(info.Committed)}
		}
		return p.printJSON(all)
	}
	now := time.Now()
	rows := make([][]string, len(blobs))
	for i, info := range blobs {
		rows[i] = []string{info.Digest.String(), humanSize(info.Size), humanAge(info.Committed, now)}
	}
	return p.printTable([]string{"DIGEST", "SIZE", "AGE"}, rows)
}
