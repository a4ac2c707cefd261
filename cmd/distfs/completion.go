package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Print what makes a shell complete the commands and flags",
		Example: `  source <(distfs completion bash)
  distfs completion fish >~/.config/fish/completions/distfs.fish`,
		DisableFlagsInUseLine: true,
		ValidArgs:             shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := exactly("SHELL")(cmd, args); err != nil {
				return err
			}
			if !slices.Contains(shells, args[0]) {
				return fmt.Errorf("no completion for %q: there is %s", args[0], strings.Join(shells, ", "))
			}
			return nil
		},
	}
	cmd.RunE = p.interruptible(func(_ context.Context, args []string) error {
		root := cmd.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(p.stdout, true)
		case "zsh":
			return root.GenZshCompletion(p.stdout)
		case "fish":
			return root.GenFishCompletion(p.stdout, true)
		}
		return root.GenPowerShellCompletionWithDesc(p.stdout)
	})
	return cmd
}

// completeValues has the values of flags completed: words, folders, files, and
// of the mount's options the names.
func completeValues(root *cobra.Command) {
	for _, cmd := range append(root.Commands(), root) {
		add := func(f *pflag.Flag) {
			if complete := completer(cmd, f); complete != nil {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // it is its own flag, once
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(add)
		cmd.PersistentFlags().VisitAll(add)
	}
}

// completer returns what completes the values of f, nil where the shell's own
// files do.
func completer(cmd *cobra.Command, f *pflag.Flag) cobra.CompletionFunc {
	name, _ := pflag.UnquoteUsage(f)
	switch v := f.Value.(type) {
	case *choice:
		return cobra.FixedCompletions(v.of, cobra.ShellCompDirectiveNoFileComp)
	case *mountOptions:
		return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completeOptions(cmd.Flags(), typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	case *path:
		if name == "DIR" {
			return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		}
		return nil
	}
	if name == "FILE" {
		return nil
	}
	return cobra.NoFileCompletions
}

// completeOptions are the lists of options that begin with typed and have one
// more name, or one value of few.
func completeOptions(flags *pflag.FlagSet, typed string) []string {
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	name, _, valued := strings.Cut(typed[len(before):], "=")
	var all []string
	if f := flags.Lookup(strings.ReplaceAll(name, "_", "-")); valued && f != nil {
		if c, ok := f.Value.(*choice); ok {
			for _, word := range c.of {
				all = append(all, before+name+"="+word)
			}
		}
		return all
	}
	flags.VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == "options" || f.Name == "help":
		case f.NoOptDefVal == "":
			all = append(all, before+key(f.Name)+"=")
		default:
			all = append(all, before+key(f.Name))
		}
	})
	for _, opt := range append(slices.Sorted(maps.Keys(opposite)), granted...) {
		all = append(all, before+opt)
	}
	return all
}
