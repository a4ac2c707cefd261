package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"distfs/content"
	"distfs/fs"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (p *program) statCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "stat PATH",
		Short: "Show what is known of a file of a mount",
		Long: `Show what is known of PATH, any file, directory or link in a mount: its kind, and
of an object and what leads to one the locator, digest, media type, size, how
much of it is here (state is absent, partial or complete) and since when all of
it; of a tag its target and until when that holds; of an image's file its digest, the
layer that it comes from, and whether that layer's tar or its table of contents
says so. A link is not followed; what is
told of an object, its size too, is of the one that it leads to.

The process that serves the mount is asked, through the store that it works on.
It tells what it knows: nothing is asked of a registry.`,
		Args: exactly("PATH"),
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			return p.stat(ctx, args[0], &out)
		}),
	}
	out.flag(cmd)
	return cmd
}

// A fileInfo is what stat prints of a file.
type fileInfo struct {
	Path       string        `json:"path"` // from the mount's root
	Mountpoint string        `json:"mountpoint,omitempty"`
	Kind       string        `json:"kind"`
	Locator    string        `json:"locator,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	MediaType  string        `json:"mediaType,omitempty"`
	Layer      digest.Digest `json:"layer,omitempty"` // of an image's file
	View       string        `json:"view,omitempty"`  // of that layer: toc or tar
	State      string        `json:"state,omitempty"`
	Size       *int64        `json:"size,omitempty"`  // absent while unknown, and of directories
	Local      *int64        `json:"local,omitempty"` // bytes of the object that are here
	Committed  *time.Time    `json:"committed,omitempty"`
	Target     string        `json:"target,omitempty"` // of a link
	Until      *time.Time    `json:"until,omitempty"`  // for which a tag's target holds
}

func newFileInfo(i fs.Info) fileInfo {
	f := fileInfo{
		Path: i.Path, Kind: i.Kind, Locator: i.Locator, Digest: i.Digest, MediaType: i.MediaType, Layer: i.Layer, View: i.View, State: i.State,
		Committed: stamp(i.Committed), Target: i.Target, Until: stamp(i.Until),
	}
	switch i.Kind {
	case "root", "host", "repository", "image", "directory":
	default:
		if i.Size >= 0 {
			f.Size = &i.Size
		}
	}
	if i.State != "" {
		f.Local = &i.Local
	}
	return f
}

func (p *program) stat(ctx context.Context, path string, out *output) error {
	place, err := fs.Locate(path)
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	info, err := p.askMount(ctx, place)
	if err != nil {
		return err
	}
	info.Mountpoint = place.Mountpoint
	if out.json() {
		return p.printJSON(info)
	}
	return p.printInfo(info)
}

// askMount asks the process that serves the mount.
func (p *program) askMount(ctx context.Context, at fs.Place) (fileInfo, error) {
	store, err := p.existing()
	if err != nil {
		return fileInfo{}, err
	}
	defer store.Close()
	of, err := server(ctx, store, at)
	if err != nil {
		return fileInfo{}, fmt.Errorf("%w; if it is a mount of another store than %s, name that with --store", err, p.flags.store)
	}
	var info fileInfo
	return info, ask(ctx, store, of, question{Op: "stat", Path: at.Path}, &info)
}

// server finds the process that serves a mount.
func server(ctx context.Context, store *content.Store, at fs.Place) (content.Process, error) {
	all, err := store.Processes()
	if err != nil {
		return content.Process{}, err
	}
	var errs []error
	for _, of := range all {
		var s processStatus
		if err := ask(ctx, store, of, question{Op: "status"}, &s); err != nil {
			errs = append(errs, err)
		} else if s.Device == at.Device {
			return of, nil
		}
	}
	return content.Process{}, errors.Join(append(errs, fmt.Errorf("nobody serves %s; if its process was killed: distfs umount %s", at.Mountpoint, at.Mountpoint))...)
}

// printInfo prints what is known, a line each.
func (p *program) printInfo(i fileInfo) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	when := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, line := range [][2]string{
		{"path", i.Path},
		{"mountpoint", i.Mountpoint},
		{"kind", i.Kind},
		{"target", i.Target},
		{"until", when(i.Until)},
		{"locator", i.Locator},
		{"digest", i.Digest.String()},
		{"mediatype", i.MediaType},
		{"layer", i.Layer.String()},
		{"view", i.View},
		{"size", number(i.Size)},
		{"state", i.State},
		{"local", number(i.Local)},
		{"committed", when(i.Committed)},
	} {
		if line[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", line[0], oneLine(line[1])); err != nil {
			return err
		}
	}
	return w.Flush()
}
