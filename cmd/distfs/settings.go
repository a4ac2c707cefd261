package main

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"

	"distfs/locator"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settle gives each flag of cmd that the command line left out its value from
// the environment, else from the configuration files, else its default. Within
// each of these an option of -o is as good as the flag.
func (p *program) settle(cmd *cobra.Command) error {
	s := &settling{flags: cmd.Flags(), done: make(map[string]bool)}
	s.flags.VisitAll(func(f *pflag.Flag) { s.done[f.Name] = f.Changed })
	if s.done["store"] && p.flags.store == "" {
		return emptyStore("--store")
	}
	if err := s.options("-o "); err != nil {
		return err
	}
	if err := s.apply(fromEnvironment); err != nil {
		return err
	}
	if err := s.options("DISTFS_OPTIONS: "); err != nil {
		return err
	}
	files, err := p.configFiles()
	if err != nil {
		return err
	}
	p.hosts = locator.Hosts{}
	for _, c := range files {
		if err := s.apply(c.value); err != nil {
			return err
		}
		if err := s.options(c.name + ": options: "); err != nil {
			return err
		}
		for name, h := range c.hosts {
			if _, ok := p.hosts[name]; !ok {
				p.hosts[name] = h
			}
		}
	}
	return p.settled()
}

// settled makes of the global flags what the commands use.
func (p *program) settled() error {
	p.log = newLog(p.stderr, p.flags.logLevel.value, p.flags.logFormat.value)
	if err := searchable(p.flags.certsDir); err != nil {
		return fmt.Errorf("--certs-dir: %w", err)
	}
	if p.flags.store != "" {
		return nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("--store: no default: %w", err)
	}
	p.flags.store = filepath.Join(dir, "distfs")
	return nil
}

// searchable says whether names can be looked up in dir: a folder that was
// named is not to be passed over, as one is that may be there. "" is none.
func searchable(dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "_default")); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// A settling is the flags of a command on their way to their values.
type settling struct {
	flags *pflag.FlagSet
	done  map[string]bool // has its value, by the flag's name
}

// A lookup says what a place has for a flag, and how to name it in an error.
type lookup func(f *pflag.Flag) (value, from string, ok bool)

// apply sets from one place what is not set yet. Options pile up.
func (s *settling) apply(from lookup) error {
	var errs []error
	s.flags.VisitAll(func(f *pflag.Flag) {
		_, pile := f.Value.(*mountOptions)
		if s.done[f.Name] && !pile {
			return
		}
		value, name, ok := from(f)
		if !ok {
			return
		}
		s.done[f.Name] = true
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", name, value, err))
		}
	})
	return first(errs)
}

// options sets the flags that the options of -o name, as far as they are not
// set yet.
func (s *settling) options(prefix string) error {
	f := s.flags.Lookup("options")
	if f == nil {
		return nil
	}
	opts, ok := f.Value.(*mountOptions)
	if !ok {
		return nil
	}
	named, err := opts.take(s.flags)
	if err != nil {
		return fmt.Errorf("%s%w", prefix, err)
	}
	for name, value := range named {
		if s.done[name] {
			continue
		}
		s.done[name] = true
		if name == "store" && value == "" {
			return emptyStore(prefix + "store=")
		}
		if err := s.flags.Lookup(name).Value.Set(value); err != nil {
			return fmt.Errorf("%s%s=%s: %w", prefix, key(name), value, err)
		}
	}
	return nil
}

// emptyStore refuses what may be a variable that is not set: the default would
// take what was meant for another store.
func emptyStore(flag string) error {
	return fmt.Errorf("%s: it is empty: leave it out for the user's own store", flag)
}

// fromEnvironment looks into the environment. A variable that is empty
// counts as not set.
func fromEnvironment(f *pflag.Flag) (value, from string, ok bool) {
	if f.Name == "help" {
		return "", "", false
	}
	from = "DISTFS_" + strings.ToUpper(key(f.Name))
	value = os.Getenv(from)
	return value, from, value != ""
}

// key is a flag's name in a configuration file.
func key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

func first(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}
