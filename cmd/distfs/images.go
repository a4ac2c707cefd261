package main

import (
	"context"
	"fmt"

	"distfs/content"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

func (p *program) imagesCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List the images that the store holds",
		Long: `List the images that the store's index.json names: digest, type and platform, that
of the config where index.json has none, the size of all that it is made of, each blob counted once, and whether all of that is
here. Blobs that images share count for each of them.`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(ctx context.Context, _ []string) error {
			return p.images(ctx, &out)
		}),
	}
	out.flag(cmd)
	return cmd
}

// A listedImage is what images prints of one for programs.
type listedImage struct {
	Name      string               `json:"name,omitempty"`
	MediaType string               `json:"mediaType,omitempty"`
	Digest    digest.Digest        `json:"digest"`
	Platform  *ocispec.Platform    `json:"platform,omitempty"`
	Size      int64                `json:"size"`  // of all that it is made of
	State     string               `json:"state"` // complete or partial
	Missing   []ocispec.Descriptor `json:"missing,omitempty"`
	Absent    int                  `json:"-"` // how many are missing
	Pinned    bool                 `json:"pinned,omitempty"`
}

func (p *program) images(ctx context.Context, out *output) error {
	all, err := inStore(p, []listedImage{}, func(store *content.Store) ([]listedImage, error) { return imagesOf(ctx, store) })
	if err != nil {
		return err
	}
	if out.json() {
		return p.printJSON(all)
	}
	rows := make([][]string, len(all))
	for i, m := range all {
		on := ""
		if m.Platform != nil {
			on = (*platform)(m.Platform).String()
		}
		state := m.State
		if m.Absent > 0 {
			state = fmt.Sprintf("%d missing", m.Absent)
		}
		rows[i] = []string{cell(m.Name), cell(string(m.Digest)), cell(m.MediaType), cell(on), humanSize(m.Size), state}
	}
	return p.printTable([]string{"NAME", "DIGEST", "TYPE", "PLATFORM", "SIZE", "STATE"}, rows)
}

// imagesOf returns what index.json names, in its order.
func imagesOf(ctx context.Context, store *content.Store) ([]listedImage, error) {
	entries, err := store.Index()
	if err != nil {
		return nil, err
	}
	all := make([]listedImage, 0, len(entries))
	for _, m := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		extent, err := store.Extent(m)
		if err != nil {
			return nil, err
		}
		if on, ok := transfer.PlatformOf(store, m); ok {
			m.Platform = &on
		}
		pinned, _ := store.Pinned(m.Digest) // what is no digest is not pinned
		row := listedImage{
			Name: imageName(m), MediaType: m.MediaType, Digest: m.Digest, Platform: m.Platform,
			Size: extent.Size, State: "complete", Missing: extent.Missing, Absent: extent.Absent, Pinned: pinned,
		}
		if extent.Absent > 0 || extent.Blobs == 0 || extent.Cut {
			row.State = "partial"
		}
		all = append(all, row)
	}
	return all, nil
}
