package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A mount in the background is a second process: the same program with the same
// arguments, with / as its directory, the log as its standard error and no other
// file of who started it. It has one end of a pipe, whose number stands in
// readyVar, and says there, once, that it serves or what is wrong. The first
// process waits for that.
//
// It begins a session of its own when it has mounted and not before: autofs lets
// those through to the mount point that are in automount's process group, and
// everybody else waits there for the mount.
const (
	readyVar = "_DISTFS_READY"
	ready    = "ready\n"
)

// launch starts this program anew, in the background, and returns when the mount
// serves. Its error is an exitError if the other process has ended. A signal
// that ends this process meanwhile ends the other one too.
func (p *program) launch(ctx context.Context, dir, logFile string) error {
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	log, err := openLog(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	said, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	defer theirs.Close()
	cmd, err := p.again(ctx, log, theirs)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close()
	b, _ := io.ReadAll(io.LimitReader(said, maxMessage)) // it ends with the other process's end of the pipe
	if string(b) == ready {
		p.mounted(dir)
		return cmd.Process.Release() // the end of ctx is no end to it any more
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return &exitError{code: max(cmd.ProcessState.ExitCode(), 1), said: string(b), how: err, log: log.Name()}
}

// again is this program, to be started in the background.
func (p *program) again(ctx context.Context, log, pipe *os.File) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := keepFiles(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, p.args...)
	cmd.Args[0] = "distfs" // it may have been called mount.distfs
	cmd.Env = append(absolute(os.Environ()), readyVar+"=3")
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{pipe}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace // one that hangs before it is mounted heeds no signal
	return cmd, nil
}

// keepFiles has no file of this process but the standard ones be inherited:
// the shell's lock or pipe would live as long as the mount.
func keepFiles() error {
	files, err := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// absolute makes the paths in those variables absolute that are read later than
// the process has moved to /.
func absolute(env []string) []string {
	for i, v := range env {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR":
			if abs, err := filepath.Abs(value); value != "" && err == nil {
				env[i] = name + "=" + abs
			}
		}
	}
	return env
}

// An exitError says how the process in the background ended before it served.
type exitError struct {
	code int
	said string // its error, if it told it
	how  error
	log  string
}

func (e *exitError) Error() string {
	if e.said != "" {
		return strings.TrimSuffix(e.said, "\n")
	}
	return fmt.Sprintf("the process in the background ended: %v: see %s", e.how, e.log)
}

// openLog opens the log of a mount in the background, to be appended to.
func openLog(name string) (*os.File, error) {
	if name == "" {
		var err error
		if name, err = defaultLog(); err != nil {
			return nil, fmt.Errorf("--log-file: no default: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("--log-file: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--log-file: %w", err)
	}
	return f, nil
}

// defaultLog is /var/log/distfs.log for root and distfs/mount.log below
// XDG_STATE_HOME for others.
func defaultLog() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/log/distfs.log", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "distfs", "mount.log"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state", "distfs", "mount.log"), err
}

// A starter is who waits for a mount in the background. A nil one is nobody.
type starter struct{ pipe *os.File }

// startedBy returns who started this process in the background, nil if that is
// not so. The process's children are told nothing of it.
func startedBy() *starter {
	fd, err := strconv.Atoi(os.Getenv(readyVar))
	_ = os.Unsetenv(readyVar)
	if err != nil || fd < 3 {
		return nil
	}
	unix.CloseOnExec(fd)
	return &starter{os.NewFile(uintptr(fd), "starter")}
}

// ready leaves the session of who started this process and tells that the mount
// serves. If nobody is there to hear it, that is an
// error: who gave up waiting has to find nothing mounted.
func (s *starter) ready() error {
	if s == nil {
		return nil
	}
	_, err := unix.Setsid()
	if err == nil {
		_, err = io.WriteString(s.pipe, ready)
	}
	return errors.Join(err, s.pipe.Close())
}

// failed tells what is wrong, if ready was not told before.
func (s *starter) failed(err error) {
	if s == nil || err == nil {
		return
	}
	_, _ = io.WriteString(s.pipe, oneLine(err.Error()))
	s.pipe.Close()
}

// leave makes dir and the store absolute and moves to /, so that the process
// keeps no directory busy.
func (p *program) leave(dir string) (string, error) {
	for _, name := range []*string{&p.flags.store, &p.flags.certsDir, &p.flags.config} {
		if *name == "" {
			continue
		}
		abs, err := filepath.Abs(*name)
		if err != nil {
			return "", err
		}
		*name = abs
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return abs, os.Chdir("/")
}
