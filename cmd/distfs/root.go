package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// root returns the whole tree of commands. Its flags are the program's.
func (p *program) root() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "distfs COMMAND",
		Short: "Image registries as one read-only file system",
		Long: `distfs mounts every image registry as one read-only file system: prefix an
image reference with the mount point and it is a path. What was read is kept in
a store on disk, and further commands work on that store.

Each flag has an environment variable, --tag-ttl has DISTFS_TAG_TTL, and a key
in the configuration file, tag_ttl. A flag beats the environment, which beats
the file.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if version && len(args) == 0 {
				return nil
			}
			return p.commandGiven(cmd, args)
		},
		RunE:              p.interruptible(func(context.Context, []string) error { return p.version(&output{}) }),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return p.settle(cmd) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		// "lisst" is as far from "list" as this.
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(&p.help)
	// That it runs, for --version, makes a usage line of its own.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "", 1))
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(p.helpCommand())
	p.globalFlags(root)
	root.Flags().BoolVar(&version, "version", false, "print the version")
	root.AddCommand(
		p.mountCommand(), p.umountCommand(),
		p.fetchCommand(), p.pullCommand(), p.pushCommand(), p.importCommand(), p.exportCommand(), p.ingestCommand(), p.unpackCommand(),
		p.fetchObjectCommand(), p.resolveCommand(), p.tagsCommand(),
		p.imagesCommand(), p.listCommand(), p.activeCommand(), p.getCommand(), p.deleteCommand(),
		p.verifyCommand(), p.pruneCommand(), p.pinCommand(), p.unpinCommand(),
		p.statusCommand(), p.statCommand(),
		p.versionCommand(), p.completionCommand(),
	)
	completeValues(root)
	return root
}

// flagError is err with what an unknown flag is like.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	names := &cobra.Command{SuggestionsMinimumDistance: 2} // cobra measures names of commands
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	like := names.SuggestionsFor(unknown.GetSpecifiedName())
	if len(like) == 0 {
		return err
	}
	return fmt.Errorf("%w: did you mean --%s?", err, strings.Join(like, " or --"))
}

// commandGiven refuses what names no command.
func (p *program) commandGiven(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("no command given: distfs --help lists them")
	}
	like := cmd.SuggestionsFor(args[0])
	if len(like) > 0 {
		return fmt.Errorf("no command %q: did you mean %s?", args[0], strings.Join(like, " or "))
	}
	return fmt.Errorf("no command %q: distfs --help lists them", args[0])
}

func (p *program) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "help [COMMAND]",
		Short:                 "Help on a command",
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if c, rest, err := cmd.Root().Find(args); err != nil || len(rest) > 0 || c == nil {
				return fmt.Errorf("no command %q: distfs --help lists them", strings.Join(args, " "))
			}
			return nil
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // help needs no good configuration
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// globalFlags adds the flags that stand before or after any command.
func (p *program) globalFlags(root *cobra.Command) {
	g := &p.flags
	g.timeout = duration{d: 30 * time.Second, positive: true}
	g.logLevel = choice{"info", []string{"debug", "info", "warn", "error"}}
	g.logFormat = choice{"text", []string{"text", "json"}}
	fs := root.PersistentFlags()
	fs.SortFlags = false
	fs.Var((*path)(&g.store), "store", "keep content in `DIR` (default the user's cache directory + /distfs)")
	fs.StringVar(&g.config, "config", "", "read `FILE` as the configuration, and no other")
	fs.Var((*path)(&g.certsDir), "certs-dir", "read mirrors and certificates from `DIR`/HOST/hosts.toml, as containerd does (default certs.d beside the configuration and in /etc/distfs, /etc/containerd)")
	fs.Var(&g.timeout, "timeout", "give up what makes no progress for this long")
	fs.Var(&g.logLevel, "log-level", "log from this level on")
	fs.Var(&g.logFormat, "log-format", "log as text or as JSON, a line each")
}

// exactly wants as many arguments as names and says which is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return fmt.Errorf("argument %q is too many", args[len(names)])
		}
		return nil
	}
}

// atLeast wants one argument or more.
func atLeast(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s is missing", name)
		}
		return nil
	}
}
