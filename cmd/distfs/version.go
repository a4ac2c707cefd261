package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (p *program) versionCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print the version",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(context.Context, []string) error {
			return p.version(&out)
		}),
	}
	out.flag(cmd)
	return cmd
}

// A build is what version prints for programs.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the revision and then some
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (p *program) version(out *output) error {
	b := readBuild()
	if out.json() {
		return p.printJSON(b)
	}
	_, err := fmt.Fprintf(p.stdout, "distfs %s %s %s\n", b.Version, b.Platform, b.Go)
	return err
}

func readBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
