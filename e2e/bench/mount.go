package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A mount is a distfs that serves a mount point.
type mount struct {
	b    *bench
	cmd  *exec.Cmd
	dir  string
	cred *syscall.Credential
}

var errDevice = errors.New("needs a /dev/fuse that is open to all")

// nobody is who has no rights here, neither passthrough nor a larger read-ahead.
const nobody = 65534

// mount starts a daemon on the store, as root or as nobody, with further arguments.
func (b *bench) mount(store string, root bool, args ...string) (*mount, error) {
	m := &mount{b: b, dir: b.path("mnt")}
	if !root {
		if info, err := os.Stat("/dev/fuse"); err != nil || info.Mode()&0o006 != 0o006 {
			return nil, errDevice
		}
		m.cred = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	for _, d := range []string{m.dir, store, b.path("run")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
		if m.cred != nil {
			if err := os.Chown(d, nobody, nobody); err != nil {
				return nil, err
			}
		} else if err := os.Chown(d, os.Getuid(), os.Getgid()); err != nil {
			return nil, err
		}
	}
	m.cmd = m.command(b.distfs, append(append([]string{"mount", "--store", store}, args...), m.dir)...)
	out, err := m.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "mounted ") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return m, nil
		}
		said.WriteString(lines.Text() + "\n")
	}
	_ = m.cmd.Wait()
	return nil, fmt.Errorf("distfs mount: %s", said.String())
}

// command is a program run as the mount's user, with a home of its own.
func (m *mount) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.b.ctx, name, args...)
	home := m.b.path("run")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_CACHE_HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.cred}
	return cmd
}

// object is the blob's path below the mount, under a host's name.
func (m *mount) object(host string) string {
	return filepath.Join(m.dir, host, repo, m.b.dgst.String())
}

// cat times `cat FILE >/dev/null`.
func (m *mount) cat(path string) (time.Duration, error) { return timed(m.command("cat", path)) }

func timed(cmd *exec.Cmd) (time.Duration, error) {
	var said strings.Builder
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", cmd, err, said.String())
	}
	return time.Since(start), nil
}

// close unmounts, and notes how much memory the daemon took at its peak.
func (m *mount) close() error {
	m.b.peak = max(m.b.peak, peakKiB(m.cmd.Process.Pid))
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	return m.cmd.Wait()
}

// peakKiB is a process's largest resident set so far.
func peakKiB(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return n
		}
	}
	return 0
}

// fresh empties a store and has the disk at rest.
func fresh(store string) error {
	if err := os.RemoveAll(store); err != nil {
		return err
	}
	syscall.Sync()
	return nil
}
