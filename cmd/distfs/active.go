package main

import (
	"context"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (p *program) activeCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "active",
		Short:             "List what is on its way into the store",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(context.Context, []string) error {
			return p.active(&out)
		}),
	}
	out.flag(cmd)
	return cmd
}

// An ingesting object is what active prints of it for programs.
type ingesting struct {
	Ref      string        `json:"ref"`
	Size     int64         `json:"size"`            // what is here, wherever it lies
	Offset   int64         `json:"offset"`          // up to where nothing is missing
	Total    *int64        `json:"total,omitempty"` // absent while unknown
	Expected digest.Digest `json:"expected,omitempty"`
	Started  *time.Time    `json:"started,omitempty"`
	Updated  *time.Time    `json:"updated,omitempty"`
}

func (p *program) active(out *output) error {
	all, err := inStore(p, nil, (*content.Store).Ingests)
	if err != nil {
		return err
	}
	if out.json() {
		list := make([]ingesting, len(all))
		for i, s := range all {
			list[i] = ingesting{s.Ref, s.Local, s.Offset, nil, s.Expected, stamp(s.Started), stamp(s.Updated)}
			if s.Total >= 0 {
				list[i].Total = &s.Total
			}
		}
		return p.printJSON(list)
	}
	now := time.Now()
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{cell(s.Ref), humanSize(s.Local), humanSize(s.Offset) + "/" + humanSize(s.Total), humanAge(s.Started, now)}
	}
	return p.printTable([]string{"REF", "SIZE", "OFFSET/TOTAL", "AGE"}, rows)
}
