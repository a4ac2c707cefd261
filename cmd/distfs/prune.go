package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// pruneFlags are the flags of prune.
type pruneFlags struct {
	output    output
	maxSize   size
	olderThan duration
	dryRun    bool
	all       bool
}

func (p *program) pruneCommand() *cobra.Command {
	var f pruneFlags
	f.olderThan.positive = true
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Evict from the store what was not used for long",
		Long: `Evict from the store what was not used for long, the least recently used first:
blobs, and the parts of those that are on their way in; before these what was derived
from layers for trees, and first what verify moved to bad/. Each that goes is printed. What some process has open stays, and so does what is pinned or belongs
to an image that is pinned or that the store's index.json names. Sizes are those on disk.
With --max-size and --older-than only what is older goes, until the store is small enough.

  distfs prune --max-size 20G                   until the store has 20 GiB at most
  distfs prune --older-than 720h --dry-run      what was not used for 30 days`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.Var(&f.maxSize, "max-size", "evict until the store has no more bytes on disk")
	fs.Var(&f.olderThan, "older-than", "evict only what was not used for this time")
	fs.BoolVar(&f.all, "all", false, "evict all that can go")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print what would go, and leave it")
	f.output.flag(cmd)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		return f.check(cmd.Flags().Changed)
	}
	cmd.RunE = p.interruptible(func(ctx context.Context, _ []string) error { return p.prune(ctx, &f) })
	return cmd
}

// check says what is wrong with the flags together. byHand says whether one was
// given on the command line: what is configured counts only where none is, for a
// size that is configured is meant for mounts.
func (f *pruneFlags) check(byHand func(flag string) bool) error {
	switch {
	case f.all && (byHand("max-size") || byHand("older-than")):
		return errors.New("--all evicts all that can go: leave it out where --max-size or --older-than says what")
	case byHand("max-size") && f.maxSize == 0:
		return errors.New("--max-size 0 is no limit: --all evicts all that can go")
	case !byHand("max-size") && (byHand("older-than") || f.all):
		f.maxSize = 0
	}
	if !byHand("older-than") && (byHand("max-size") || f.all) {
		f.olderThan.d = 0
	}
	if f.maxSize == 0 && f.olderThan.d == 0 && !f.all {
		return errors.New("nothing says what to prune: give --max-size, --older-than or --all, or configure max_size")
	}
	return nil
}

// A pruned blob or part of one is what prune prints of it for programs.
type pruned struct {
	Digest  digest.Digest `json:"digest,omitempty"` // absent: not known
	Ref     string        `json:"ref,omitempty"`    // of a part
	State   string        `json:"state"`            // complete, partial, bad: moved aside by verify, or derived: what was made of a layer
	Size    int64         `json:"size"`
	Updated *time.Time    `json:"updated,omitempty"` // when it was last used
}

func (p *program) prune(ctx context.Context, f *pruneFlags) error {
	opts := content.EvictOptions{MaxSize: int64(f.maxSize), OlderThan: f.olderThan.d, DryRun: f.dryRun}
	if f.all {
		opts.MaxSize = -1
	}
	all := []pruned{}
	opts.Each = func(e content.Evicted) error {
		row := pruned{e.Digest, e.Ref, "complete", e.Size, stamp(e.Used)}
		switch {
		case e.Derived:
			row.State = "derived"
		case e.Partial:
			row.State = "partial"
		case e.Bad:
			row.State = "bad"
		}
		if f.output.json() {
			all = append(all, row)
			return ctx.Err()
		}
		if err := p.printPruned(&row); err != nil {
			return err
		}
		return ctx.Err()
	}
	done, kept, err := p.evict(opts)
	if f.output.json() {
		err = errors.Join(err, p.printJSON(all))
	}
	if err != nil && done.Count == 0 {
		return err
	}
	verb := "freed"
	if f.dryRun {
		verb = "would free"
	}
	objects := "objects"
	if done.Count == 1 {
		objects = "object"
	}
	left := humanSize(done.Size) + " left"
	if kept > 0 {
		left += ", " + humanSize(kept) + " of it kept by images and pins"
	}
	p.say(fmt.Sprintf("%s %s in %d %s; %s", verb, humanSize(done.Freed), done.Count, objects, left))
	return err
}

// printPruned prints a line for what went at once: it may be long until the next.
func (p *program) printPruned(row *pruned) error {
	name := string(row.Digest)
	if name == "" {
		name = row.Ref
	}
	line := oneLine(name) + "  " + humanSize(row.Size)
	if row.State != "complete" {
		line += "  " + row.State
	}
	_, err := fmt.Fprintln(p.stdout, line)
	return err
}

// evict evicts from the store, if there is one, and returns also the bytes on
// disk of what images and pins keep.
func (p *program) evict(opts content.EvictOptions) (done content.Eviction, kept int64, err error) {
	store, err := p.existing()
	if errors.Is(err, iofs.ErrNotExist) {
		return done, 0, nil
	}
	if err != nil {
		return done, 0, err
	}
	defer store.Close()
	if done, err = store.Evict(opts); err == nil {
		kept, err = store.KeptSize()
	}
	return done, kept, err
}
