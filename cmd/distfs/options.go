package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

var _ = pflag.Value((*mountOptions)(nil))

// mountOptions is the flag -o of mount: options joined by commas, as in fstab.
// An option is a flag under its name, tag_ttl=5m or offline, or one of
// mount(8)'s.
type mountOptions struct {
	given []string // not taken yet
}

func (o *mountOptions) String() string { return strings.Join(o.given, ",") }
func (o *mountOptions) Type() string   { return "OPT,..." }

func (o *mountOptions) Set(s string) error {
	o.given = append(o.given, strings.Split(s, ",")...)
	return nil
}

// mount(8)'s options that say what a mount is in any case, or that are for
// others to read.
var (
	granted = []string{
		"ro", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
		"atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime",
		"async", "sync", "dirsync", "silent", "loud", "iversion", "noiversion", "nomand", "nosymfollow", "symfollow",
	}
	opposite = map[string]string{"nodev": "dev", "nosuid": "suid", "exec": "noexec"}
)

// take returns what the options given since the last call make of flags, by
// the flag's name. Of one option named twice the last counts, as with mount(8).
func (o *mountOptions) take(flags *pflag.FlagSet) (map[string]string, error) {
	given := o.given
	o.given = nil
	named := make(map[string]string)
	for _, opt := range given {
		name, value, hasValue := strings.Cut(opt, "=")
		switch {
		case isGranted(opt):
			continue
		case opt == "rw":
			return nil, errors.New("rw: a mount is read-only")
		case opposite[opt] != "":
			named[opposite[opt]] = "false"
			continue
		}
		f := flags.Lookup(strings.ReplaceAll(name, "_", "-"))
		if f == nil || f.Name == "options" || f.Name == "help" {
			return nil, fmt.Errorf("%s: no such option", opt)
		}
		switch {
		case !hasValue && f.NoOptDefVal == "":
			return nil, fmt.Errorf("%s: it needs a value: %s=…", opt, opt)
		case !hasValue:
			value = f.NoOptDefVal
		}
		named[f.Name] = value
	}
	return named, nil
}

// isGranted says whether opt is one of mount(8)'s that change nothing here.
// It writes user=NAME for who mounts by the option user.
func isGranted(opt string) bool {
	name, _, _ := strings.Cut(opt, "=")
	return opt == "" || slices.Contains(granted, opt) || name == "comment" || name == "user" ||
		strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-")
}

// knownOptions are those of opts, joined by commas, that take knows with flags.
func knownOptions(opts string, flags *pflag.FlagSet) string {
	return strings.Join(slices.DeleteFunc(strings.Split(opts, ","), func(opt string) bool {
		name, _, _ := strings.Cut(opt, "=")
		return !isGranted(opt) && opposite[opt] == "" && flags.Lookup(strings.ReplaceAll(name, "_", "-")) == nil
	}), ",")
}
