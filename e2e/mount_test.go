package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A served is a distfs that has something mounted.
type served struct {
	dir  string
	user uint32
	cmd  *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer // what it said on standard error
}

// serve runs distfs mount with args and a folder of its own, and has it unmounted
// at the end of the test. Its last argument is that folder.
func serve(t *testing.T, bin, store string, args ...string) *served {
	t.Helper()
	return serveAs(t, uint32(os.Getuid()), bin, store, args...)
}

// serveAs runs it as a user, to whom the store is then.
func serveAs(t *testing.T, user uint32, bin, store string, args ...string) *served {
	t.Helper()
	s := &served{dir: filepath.Join(t.TempDir(), "mnt"), user: user}
	must(t, os.Mkdir(s.dir, 0o755), os.Chown(s.dir, int(user), -1), os.MkdirAll(store, 0o700), os.Chown(store, int(user), -1))
	if user != uint32(os.Getuid()) {
		for _, path := range []string{s.dir, store, bin} {
			public(t, path)
		}
	}
	must(t, s.start(bin, store, args))
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			if err := s.stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("distfs %s said:\n%.4000s", strings.Join(args, " "), s.said())
		}
	})
	return s
}

// public lets all users come to what is at path, in folders of tests.
func public(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

// start runs it and waits until it serves, or has ended.
func (s *served) start(bin, store string, args []string) error {
	s.cmd = exec.Command(bin, append(append([]string{"--store", store, "mount"}, args...), s.dir)...)
	if uint32(os.Getuid()) != s.user {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
		s.cmd.Env = append(os.Environ(), "HOME="+store, "XDG_RUNTIME_DIR="+store, "XDG_CONFIG_HOME="+store)
	}
	out, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	mounted := make(chan struct{})
	var once sync.Once
	go func() { // until the process has ended
		buf := make([]byte, 4096)
		for err := error(nil); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed); {
			var n int
			n, err = out.Read(buf)
			s.mu.Lock()
			s.log.Write(buf[:n])
			if strings.Contains(s.log.String(), "mounted "+s.dir) {
				once.Do(func() { close(mounted) })
			}
			s.mu.Unlock()
		}
		once.Do(func() { close(mounted) })
	}()
	<-mounted
	if !strings.Contains(s.said(), "mounted "+s.dir) {
		return fmt.Errorf("distfs mount: %w: %s", s.cmd.Wait(), s.said())
	}
	return nil
}

func (s *served) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// stop has it unmount and end, and says so if that leaves anything mounted.
func (s *served) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	err := s.cmd.Wait()
	if left := awaitMounts(s.dir, false); left != nil {
		err = errors.Join(err, left, unix.Unmount(s.dir, unix.MNT_DETACH))
	}
	return err
}
