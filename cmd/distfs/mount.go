package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"distfs/fetch"
	"distfs/fs"
	"distfs/image"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// mountFlags are the flags of mount.
type mountFlags struct {
	options    mountOptions
	offline    bool
	allowOther bool
	tagTTL     duration
	fillBelow  fillBelow
	verify     choice
	platform   platform
	dev, suid  bool
}

func (p *program) mountCommand() *cobra.Command {
	m := mountFlags{
		tagTTL:    duration{d: time.Minute},
		fillBelow: fetch.DefaultFillBelow,
		verify:    choice{"at-end", []string{"at-end", "before-read", "never-hold"}},
		platform:  platform(image.HostPlatform()),
	}
	cmd := &cobra.Command{
		Use:   "mount MOUNTPOINT",
		Short: "Mount all registries at MOUNTPOINT",
		Long: `Mount all registries at MOUNTPOINT, read-only, and serve until it is unmounted:
by distfs umount, by SIGINT or by SIGTERM. A second signal ends the process at
once. "mounted MOUNTPOINT" on standard error says that it serves.

  MOUNTPOINT/docker.io/library/redis/sha256:…   a blob or manifest, byte for byte
  MOUNTPOINT/docker.io/library/redis:7          an image's directory`,
		Args: exactly("MOUNTPOINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.began = true
			return p.mount(cmd.Context(), args[0], &m)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&m.offline, "offline", false, "send nothing: show what the store holds")
	f.BoolVar(&m.allowOther, "allow-other", false, "let other users in, with the credentials of this one")
	f.Var(&m.tagTTL, "tag-ttl", "ask again what a tag stands for after this time")
	f.Var(&m.fillBelow, "fill-below", "fetch the whole of what is opened if it is smaller")
	f.Var(&m.verify, "verify", "hold reads of a large object until its digest matched")
	f.Var(&m.platform, "platform", "choose this one's manifest of an index")
	f.VarP(&m.options, "options", "o", "mount options joined by commas: the flags by name, dev, suid")
	for flag, v := range map[string]*bool{"dev": &m.dev, "suid": &m.suid} {
		f.BoolVar(v, flag, *v, "as the option of mount(8)")
		f.Lookup(flag).Hidden = true
	}
	return cmd
}

// mount mounts dir and returns when it is unmounted.
func (p *program) mount(ctx context.Context, dir string, m *mountFlags) error {
	// What is dead or not to be seen, the mount itself deals with.
	if info, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return &os.PathError{Op: "mount", Path: dir, Err: syscall.ENOENT}
	} else if err == nil && !info.IsDir() {
		return &os.PathError{Op: "mount", Path: dir, Err: syscall.ENOTDIR}
	}
	boundMemory()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	defer signal.Stop(signals)

	store, err := p.openStore()
	if err != nil {
		return err
	}
	f := p.fetcher(store, fetch.Options{Offline: m.offline, FillBelow: m.fillBelow.bytes(), Log: p.log})
	err = p.serve(ctx, dir, &source{f, store}, m, signals)
	return errors.Join(err, f.Close(), store.Close())
}

// serve mounts src and waits until it is unmounted, which a signal does.
func (p *program) serve(ctx context.Context, dir string, src *source, m *mountFlags, signals <-chan os.Signal) error {
	mounted, err := fs.Mount(dir, src, p.hosts, &fs.Options{
		AllowOther: m.allowOther,
		Offline:    m.offline,
		TagTTL:     tagTTL(m.tagTTL.d),
		Verify:     verifyModes[m.verify.value],
		Platform:   ocispec.Platform(m.platform),
		Dev:        m.dev,
		Suid:       m.suid,
		Log:        p.log,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "mounted %s\n", oneLine(dir))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mounted.Wait()
	}()
	var failed chan error
	for {
		select {
		case <-ended:
			return nil
		case err := <-failed:
			if err != nil {
				return err
			}
			failed = nil
		case <-signals:
			if failed != nil {
				// The first may not have come far: timeout(1) sends two at once.
				if err := mounted.Abandon(); err != nil {
					p.complain(err)
				}
				os.Exit(1)
			}
			failed = make(chan error, 1)
			go func() { failed <- mounted.Unmount() }()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), mounted.Unmount())
		}
	}
}

// verifyModes are the values of --verify.
var verifyModes = map[string]fs.Verify{
	"at-end":      fs.AtEnd,
	"before-read": fs.BeforeRead,
	"never-hold":  fs.NeverHold,
}

// tagTTL is d as fs.Options.TagTTL has it: negative for not at all.
func tagTTL(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// endings are the signals that end a mount. SIGHUP is one as far as who began
// the process did not have it ignored, as nohup does.
func endings() []os.Signal {
	s := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		s = append(s, syscall.SIGHUP)
	}
	return s
}

// A mount lives long and its garbage is short-lived buffers: it is collected
// early, unless the environment says otherwise.
const (
	gcPercent   = 50
	memoryLimit = 48 << 20
)

func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
