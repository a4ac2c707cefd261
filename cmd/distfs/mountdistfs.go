package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distfs/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// helperNames are those by which mount(8) calls this program, for the types
// distfs and fuse.distfs. Files of these names in /sbin are links to distfs.
var helperNames = []string{"mount.distfs", "mount.fuse.distfs"}

// The exit codes of mount(8).
const (
	mountUsage  = 1
	mountFailed = 32
)

const helperUsage = "usage: mount.distfs SRC DIR [-fnsv] [-o OPT,…], options as for distfs mount"

// A helperCall is what mount(8) asks its helper for:
//
//	mount.distfs SRC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
type helperCall struct {
	dir     string
	options string
	sloppy  bool // leave out options that nobody knows
	fake    bool // do all but mount
	remount bool
}

// call runs the program by the name that it was called by.
func (p *program) call(ctx context.Context, args []string) int {
	if slices.Contains(helperNames, filepath.Base(args[0])) {
		return p.mountHelper(ctx, args[1:])
	}
	return p.run(ctx, args[1:])
}

// mountHelper mounts for mount(8), in the background, and returns its exit code.
func (p *program) mountHelper(ctx context.Context, args []string) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprintln(p.stdout, helperUsage)
		return 0
	}
	h, err := parseHelperCall(args)
	if err != nil {
		p.complain(fmt.Errorf("%w (%s)", err, helperUsage))
		return mountUsage
	}
	if h.sloppy {
		h.options = knownOptions(h.options, p.mountFlagSet())
	}
	switch {
	case h.remount:
		err = h.again()
		p.sayKept(h.options)
	case h.fake:
		_, err = (&mountOptions{given: strings.Split(h.options, ",")}).take(p.mountFlagSet())
	default:
		return helperCode(p.run(ctx, []string{"mount", "--background", "-o", h.options, "--", h.dir}))
	}
	if err != nil {
		p.complain(err)
		return mountFailed
	}
	return 0
}

// sayKept says which options of a mount that serves a remount does not change.
func (p *program) sayKept(options string) {
	flags := p.mountFlagSet()
	own := knownOptions(options, flags) // mount(8) adds the kernel's
	named, err := (&mountOptions{given: strings.Split(own, ",")}).take(flags)
	if err != nil {
		p.complain(fmt.Errorf("remount: %w", err))
		return
	}
	for _, flag := range slices.Sorted(maps.Keys(named)) {
		if !slices.Contains([]string{"dev", "suid", "noexec", "allow-other"}, flag) { // mount(8) repeats the last unasked
			p.complain(fmt.Errorf("remount: %s stays as it is: for another, unmount and mount anew", key(flag)))
		}
	}
}

// helperCode is what mount(8) expects for an exit code of distfs.
func helperCode(code int) int {
	switch code {
	case 0:
		return 0
	case 2:
		return mountUsage
	}
	return mountFailed
}

// mountFlagSet are the flags of the command mount.
func (p *program) mountFlagSet() *pflag.FlagSet {
	root := p.root()
	cmd, _, err := root.Find([]string{"mount"})
	if err != nil {
		return root.Flags()
	}
	cmd.InheritedFlags() // adds them to Flags
	return cmd.Flags()
}

// parseHelperCall reads the arguments in whatever order they stand. SRC is free
// text. Of options rw is left out, which mount(8) says where nobody said ro,
// and remount is none of the mount's.
func parseHelperCall(args []string) (*helperCall, error) {
	h := &helperCall{}
	var options []string
	var namespace string
	cmd := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(_ *cobra.Command, args []string) error {
		if err := exactly("SRC", "DIR")(nil, args); err != nil {
			return err
		}
		h.dir = args[1]
		return nil
	}}
	f := cmd.Flags()
	f.BoolVarP(&h.sloppy, "sloppy", "s", false, "")
	f.BoolVarP(&h.fake, "fake", "f", false, "")
	f.BoolP("no-mtab", "n", false, "")
	f.BoolP("verbose", "v", false, "")
	f.StringP("types", "t", "", "")
	f.StringVarP(&namespace, "namespace", "N", "", "")
	f.StringArrayVarP(&options, "options", "o", nil, "")
	cmd.SetArgs(args)
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	switch err := cmd.Execute(); {
	case err != nil:
		return nil, fmt.Errorf("mount.distfs: %w", err)
	case namespace != "":
		return nil, errors.New("mount.distfs: -N: run it in the namespace instead: nsenter --mount=FILE mount …")
	}
	for opt := range strings.SplitSeq(strings.Join(options, ","), ",") {
		switch opt {
		case "remount":
			h.remount = true
		case "rw":
		default:
			h.options += opt + ","
		}
	}
	h.options = strings.TrimSuffix(h.options, ",")
	return h, nil
}

// again is a mount with the option remount. mount(8) has it bear all options that
// the mount has, and those in fstab; what can be changed are suid, dev and exec.
// The mount is read-only in any case, and distfs goes on as it was told.
func (h *helperCall) again() error {
	how := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	for opt := range strings.SplitSeq(h.options, ",") {
		switch opt {
		case "suid":
			how &^= unix.MS_NOSUID
		case "dev":
			how &^= unix.MS_NODEV
		case "noexec":
			how |= unix.MS_NOEXEC
		case "nosuid":
			how |= unix.MS_NOSUID
		case "nodev":
			how |= unix.MS_NODEV
		case "exec":
			how &^= unix.MS_NOEXEC
		}
	}
	if err := fs.IsMounted(h.dir); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	if h.fake {
		return nil
	}
	if err := unix.Mount("", h.dir, "", how, ""); err != nil {
		return &os.PathError{Op: "remount", Path: h.dir, Err: err}
	}
	return nil
}
