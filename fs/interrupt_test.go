package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"distfs/fs"
)

// TestInterrupt sends ^C to what hangs in a request of every kind.
func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		name    string
		command string
		signal  syscall.Signal
	}{
		{"read", `exec cat "$1"`, syscall.SIGINT},
		{"read", `exec cat "$1"`, syscall.SIGKILL},
		{"open", `exec cat "$1"`, syscall.SIGTERM},
		{"stat", `exec stat "$1"`, syscall.SIGINT},
		{"stat", `exec stat "$1"`, syscall.SIGQUIT},
		{"direct", `exec dd if="$1" of=/dev/null bs=1M iflag=direct`, syscall.SIGINT},
		{"readlink", `exec readlink "$2"`, syscall.SIGINT},
		{"list", `exec ls "$3"`, syscall.SIGINT},
		{"caught", `exec python3 -c 'import os,sys
try: os.stat(sys.argv[1])
except KeyboardInterrupt: sys.exit(130)' "$1"`, syscall.SIGINT},
	} {
		t.Run(c.name+" "+c.signal.String(), func(t *testing.T) {
			src := newSource(t)
			im := addImage(t, src, 10)
			b := src.add(repo, "", content(1, 9<<20)).gate()
			m := mountSource(t, src, nil)
			if c.name == "read" || c.name == "direct" {
				m.stat(m.path(b.path()))
			} else {
				src.set(func(s *source) { s.block = make(chan struct{}) })
			}
			cmd := exec.Command("sh", "-c", c.command, "sh", m.path(b.path()), m.path(repo+":v1"), m.path(im.dir))
			cmd.Dir = t.TempDir()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.name == "read" || c.name == "direct" {
				b.waitFor(t, func(b *blob) bool { return b.waiting > 0 })
			} else {
				src.waitForRequest(t)
			}
			began := time.Now()
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			wantExit(t, cmd)
			t.Logf("ended after %v", time.Since(began))
		})
	}
}

func wantExit(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			t.Errorf("%q exited 0", cmd.Args)
		}
	case <-within(t, timeLimit).Done():
		t.Errorf("%q still runs", cmd.Args)
		cmd.Process.Kill()
	}
}

// waitForRequest returns when the network was asked something.
func (s *source) waitForRequest(tb testing.TB) {
	tb.Helper()
	ctx := within(tb, timeLimit)
	for len(s.requests()) == 0 {
		if ctx.Err() != nil {
			tb.Fatal("nothing was asked")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestHarmlessSignal wants signals that a program handles not to end its
// requests: it would take EINTR for a failure.
func TestHarmlessSignal(t *testing.T) {
	src := newSource(t)
	src.block = make(chan struct{})
	b := src.add(repo, "", content(1, 100))
	m := mountSource(t, src, &fs.Options{})
	cmd := exec.Command("python3", "-c", `
import ctypes, os, signal, sys
signal.signal(signal.SIGALRM, lambda *a: os.write(2, b'.'))
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.open(sys.argv[1].encode(), os.O_RDONLY)
signal.setitimer(signal.ITIMER_REAL, 0)
print(fd >= 0, ctypes.get_errno())
`, m.path(b.path()))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	src.waitForRequest(t)
	time.Sleep(200 * time.Millisecond) // for some signals to come
	close(src.block)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if got := stdout.String(); got != "True 0\n" {
		t.Errorf("open under SIGALRM: %s %s", got, stderr.String())
	}
}

// TestTwoWaitForOne wants the second of two processes that wait for one answer
// to get it when the first one is killed.
func TestTwoWaitForOne(t *testing.T) {
	src := newSource(t)
	src.block = make(chan struct{})
	b := src.add(repo, "", content(1, 100))
	m := mountSource(t, src, nil)
	first := exec.Command("stat", m.path(b.path()))
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	src.waitForRequest(t)
	got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), 0, -1})
	first.Process.Signal(os.Interrupt)
	wantExit(t, first)
	close(src.block)
	if err := wait(); err != nil || !bytes.Equal(*got, b.content) {
		t.Errorf("the second read %d bytes, %v", len(*got), err)
	}
}
