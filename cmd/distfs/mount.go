package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"distfs/fetch"
	"distfs/fs"
	"distfs/locator"

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
	maxSize    size
	verify     choice
	platform   platform
	overlay    choice
	trustTOC   choice
	image      *locator.Reference // of a mount of one image
	metrics    listenAddr
	dev, suid  bool
	noexec     bool
	background bool
	logFile    path
}

func (p *program) mountCommand() *cobra.Command {
	m := mountFlags{
		tagTTL:    duration{d: time.Minute},
		fillBelow: fetch.DefaultFillBelow,
		verify:    choice{"at-end", []string{"at-end", "before-read", "never-hold"}},
		overlay:   choice{"trusted", []string{"trusted", "user"}},
		trustTOC:  choice{"yes", []string{"yes", "no"}},
	}
	cmd := &cobra.Command{
		Use:   "mount [REFERENCE] MOUNTPOINT",
		Short: "Mount all registries, or the files of one image, at MOUNTPOINT",
		Long: `Mount all registries at MOUNTPOINT, read-only, and serve until it is unmounted:
by distfs umount, by SIGINT or by SIGTERM. A second signal ends the process at
once. "mounted MOUNTPOINT" on standard error says that it serves. With
--background another process serves, and this one returns when it does.

  MOUNTPOINT/docker.io/library/redis/sha256:…   a blob or manifest, byte for byte
  MOUNTPOINT/docker.io/library/redis:7          an image's directory
  MOUNTPOINT/docker.io/library/redis:7/rootfs   its files

With a REFERENCE the files of that image are at MOUNTPOINT, nothing pulled. What
the image is, is settled when it is mounted: a tag that moves later changes
nothing. It is the fast way for who reads many files.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return exactly("REFERENCE", "MOUNTPOINT")(nil, args)
			}
			return atLeast("MOUNTPOINT")(nil, args)
		},
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.began = true
			if len(args) == 2 {
				t, err := p.target(args[:1])
				if err != nil {
					return err
				}
				m.image = &t.ref
			}
			return p.start(cmd.Context(), args[len(args)-1], &m)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&m.offline, "offline", false, "send nothing: show what the store holds")
	f.BoolVar(&m.allowOther, "allow-other", false, "let other users in, with the credentials of this one")
	f.Var(&m.tagTTL, "tag-ttl", "ask again what a tag stands for after this time")
	f.Var(&m.fillBelow, "fill-below", "fetch the whole of what is opened if it is smaller")
	f.Var(&m.maxSize, "max-size", "evict what was not used for long where the store is larger; 0 keeps all")
	f.Var(&m.verify, "verify", "hold reads of a large object until its digest matched")
	f.Var(&m.platform, "platform", "choose this one's manifest of an index (default the host's); refuse to mount an image that is for another alone")
	f.Var(&m.overlay, "overlay", "the attribute that marks opaque directories in layers/N, for overlayfs")
	f.Var(&m.trustTOC, "trust-toc", "take names from a layer's table of contents where the manifest vouches for it")
	f.Var(&m.metrics, "metrics-addr", "serve metrics for Prometheus at http://ADDR/metrics; without a host it is 127.0.0.1")
	f.BoolVar(&m.background, "background", false, "return when it is mounted, and serve on in the background")
	f.Var(&m.logFile, "log-file", "append the log to FILE; with --background the default is /var/log/distfs.log for root, else\n$XDG_STATE_HOME/distfs/mount.log")
	f.VarP(&m.options, "options", "o", "mount options joined by commas: the flags by name, dev, suid, noexec")
	for flag, v := range map[string]*bool{"dev": &m.dev, "suid": &m.suid, "noexec": &m.noexec} {
		f.BoolVar(v, flag, *v, "as the option of mount(8)")
		f.Lookup(flag).Hidden = true
	}
	return cmd
}

// notThere is the error of a mount point that is not there. As the one argument it may
// have been meant for a REFERENCE.
func (p *program) notThere(dir string, m *mountFlags) error {
	err := &os.PathError{Op: "mount", Path: dir, Err: syscall.ENOENT}
	if _, no := p.hosts.ParseReference(dir); m.image != nil || no != nil {
		return err
	}
	return fmt.Errorf("%w; if %s is an image, a MOUNTPOINT is missing: distfs mount %s MOUNTPOINT", err, dir, dir)
}

// start mounts dir and returns when it is unmounted; in the background, when it
// is mounted.
func (p *program) start(ctx context.Context, dir string, m *mountFlags) error {
	// What is dead or not to be seen, the mount itself deals with.
	if info, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return p.notThere(dir, m)
	} else if err == nil && !info.IsDir() {
		return &os.PathError{Op: "mount", Path: dir, Err: syscall.ENOTDIR}
	}
	p.starter = startedBy()
	if p.starter == nil && os.Geteuid() != 0 {
		p.sayIgnored(m)
	}
	switch {
	case p.starter != nil:
		var err error
		if dir, err = p.leave(dir); err != nil {
			return err
		}
	case m.background:
		return p.launch(ctx, dir, string(m.logFile))
	case m.logFile != "":
		log, err := openLog(string(m.logFile))
		if err != nil {
			return err
		}
		defer log.Close()
		p.log = newLog(log, p.flags.logLevel.value, p.flags.logFormat.value)
	}
	err := p.mount(ctx, dir, m)
	p.starter.failed(err)
	return err
}

// sayIgnored says which options fusermount3 takes from root alone. As for other file
// systems by FUSE, the mount is made without them.
func (p *program) sayIgnored(m *mountFlags) {
	for _, o := range []struct {
		name  string
		given bool
	}{{"suid", m.suid}, {"dev", m.dev}} {
		if o.given {
			p.say(fmt.Sprintf("-o %s is ignored: only root may mount without no%s", o.name, o.name))
		}
	}
}

// mount mounts dir and returns when it is unmounted.
func (p *program) mount(ctx context.Context, dir string, m *mountFlags) error {
	boundMemory()
	if err := fetch.HideMemory(); err != nil {
		p.log.Warn("other processes of this user may read its memory", "err", err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	defer signal.Stop(signals)

	metrics, err := listenMetrics(m.metrics)
	if err != nil {
		return fmt.Errorf("--metrics-addr: %w", err)
	}
	defer metrics.close()
	store, err := p.openStore()
	if err != nil {
		return err
	}
	if hides(dir, store.Dir()) {
		return errors.Join(usagef("mount %s: the store, %s, would lie below it: choose another directory for one of them", dir, store.Dir()), store.Close())
	}
	f := p.fetcher(store, fetch.Options{Offline: m.offline, FillBelow: m.fillBelow.bytes(), MaxSize: int64(m.maxSize), Log: p.log})
	control := p.attend(store, f.Active, "mount "+dir)
	began := func(m *fs.Mounted) error { control.serves(m); return p.beginMetrics(metrics, f, m) }
	err = p.serve(ctx, dir, newSource(f, store, p.hosts, p.log), m, signals, began)
	control.close()
	return errors.Join(err, f.Close(), store.Close())
}

// hides says whether path is dir or lies below it: what is mounted there would ask
// itself for its own files, and wait for ever.
func hides(dir, path string) bool {
	point, err := os.Stat(dir)
	if err != nil {
		return false // what is dead has no files
	}
	path, err = filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	for ; err == nil; path = filepath.Dir(path) {
		var info os.FileInfo
		if info, err = os.Stat(path); err == nil && os.SameFile(info, point) {
			return true
		}
		if path == filepath.Dir(path) {
			return false
		}
	}
	return false
}

// serve mounts src and waits until it is unmounted, which a signal does.
func (p *program) serve(ctx context.Context, dir string, src *source, m *mountFlags, signals <-chan os.Signal, began func(*fs.Mounted) error) error {
	mounted, err := p.attach(ctx, dir, src, m)
	if err != nil {
		return err
	}
	if err := began(mounted); err != nil {
		return errors.Join(err, mounted.Unmount())
	}
	p.mounted(dir)
	if err := errors.Join(p.starter.ready(), notify(ctx, "READY=1")); err != nil {
		return errors.Join(err, mounted.Unmount())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mounted.Wait()
	}()
	p.log.Info("serving", "mountpoint", dir, "store", p.flags.store, "pid", os.Getpid())
	why := "umount"
	var failed chan error
	for {
		select {
		case <-ended:
			p.log.Info("unmounted", "mountpoint", dir, "why", why)
			return nil
		case err := <-failed:
			if err != nil {
				return err
			}
			failed = nil
		case s := <-signals:
			why = s.String()
			if failed != nil {
				// The first may not have come far: timeout(1) sends two at once.
				if err := mounted.Abandon(); err != nil {
					p.complain(err)
				}
				os.Exit(1)
			}
			_ = notify(ctx, "STOPPING=1") // who does not hear it sees the process end
			failed = make(chan error, 1)
			go func() { failed <- mounted.Unmount() }()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), mounted.Unmount())
		}
	}
}

// attach mounts src, or the one image that m is for.
func (p *program) attach(ctx context.Context, dir string, src *source, m *mountFlags) (*fs.Mounted, error) {
	opts := &fs.Options{
		AllowOther:  m.allowOther,
		Offline:     m.offline,
		TagTTL:      tagTTL(m.tagTTL.d),
		Verify:      verifyModes[m.verify.value],
		Platform:    ocispec.Platform(m.platform),
		DistrustTOC: m.trustTOC.value == "no",
		UserOverlay: m.overlay.value == "user",
		Dev:         m.dev,
		Suid:        m.suid,
		NoExec:      m.noexec,
		Log:         p.log,
	}
	if m.image == nil {
		return fs.Mount(dir, src, p.hosts, opts)
	}
	// Who interrupts it does not wait for a registry. Of a signal that comes too late
	// for that, serve hears too.
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	mounted, err := p.attachImage(ctx, dir, src, m, opts)
	if err != nil && ctx.Err() != nil {
		return nil, errInterrupted
	}
	return mounted, err
}

// attachImage mounts the one image that m is for.
func (p *program) attachImage(ctx context.Context, dir string, src *source, m *mountFlags, opts *fs.Options) (*fs.Mounted, error) {
	ref, err := src.settle(ctx, *m.image, m.offline)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	p.log.Info("one image", "image", locator.Reference{Locator: ref.Locator, Digest: ref.Digest}.String())
	return fs.MountImage(ctx, dir, src, p.hosts, ref, opts)
}

// mounted says that dir is mounted.
func (p *program) mounted(dir string) { fmt.Fprintf(p.stderr, "mounted %s\n", oneLine(dir)) }

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
