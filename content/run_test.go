package content_test

import (
	"bufio"
	"errors"
	iofs "io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distfs/content"
)

// answer has the listener send word to all who connect.
func answer(t *testing.T, l net.Listener, word string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte(word + "\n"))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// hear connects to p and returns its word.
func hear(t *testing.T, s *content.Store, p content.Process) string {
	t.Helper()
	conn, err := s.Dial(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// A store may lie deeper than a socket's address is long.
func TestListen(t *testing.T) {
	for name, dir := range map[string]string{"plain": "store", "deep": strings.Repeat("a-long-name-of-a-directory/", 12) + "store"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), dir))
			l, err := s.Listen()
			if err != nil {
				t.Fatal(err)
			}
			answer(t, l, "word")
			all, err := s.Processes()
			if err != nil || len(all) != 1 || all[0].PID != os.Getpid() {
				t.Fatalf("Processes() = %v, %v, want this process", all, err)
			}
			files, _ := filepath.Glob(filepath.Join(s.Dir(), "run", "*"))
			if len(files) != 1 {
				t.Fatalf("run/ has %q, want one socket", files)
			}
			if info, err := os.Lstat(files[0]); err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("the socket's mode is %v, %v, want 0600", info.Mode(), err)
			}
			if got := hear(t, s, all[0]); got != "word" {
				t.Errorf("the socket says %q", got)
			}
			if _, err := s.Listen(); !errors.Is(err, iofs.ErrExist) {
				t.Errorf("Listen() again = %v, want fs.ErrExist", err)
			}
			l.Close()
			if all, err := s.Processes(); err != nil || len(all) != 0 {
				t.Errorf("Processes() = %v, %v after Close, want none", all, err)
			}
			if _, err := os.Lstat(files[0]); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("the socket is there after Close: %v", err)
			}
		})
	}
}

// leave leaves a socket of that name which nobody listens at.
func leave(t *testing.T, s *content.Store, name string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Dir(), "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(s.Dir(), "run"))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return filepath.Join(s.Dir(), "run", name)
}

func TestProcessesRemovesTheDead(t *testing.T) {
	s := newStore(t)
	dead := leave(t, s, "1-99999999999999.sock") // there is a process 1, but not that one
	gone := leave(t, s, "4194305-1.sock")        // above the largest number that Linux gives
	other := leave(t, s, "not-ours.sock")
	if all, err := s.Processes(); err != nil || len(all) != 0 {
		t.Fatalf("Processes() = %v, %v, want none", all, err)
	}
	for _, name := range []string{dead, gone} {
		if _, err := os.Lstat(name); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	if _, err := os.Lstat(other); err != nil {
		t.Errorf("a file of another name is gone: %v", err)
	}
}

// One that can't be seen, in a container beside this one say, but takes
// connections is at work.
func TestProcessesOfAnotherNamespace(t *testing.T) {
	s := newStore(t)
	name := leave(t, s, "4194306-1.sock")
	os.Remove(name)
	l, err := net.Listen("unix", filepath.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	answer(t, l, "here")
	all, err := s.Processes()
	if err != nil || len(all) != 1 {
		t.Fatalf("Processes() = %v, %v, want one", all, err)
	}
	if got := hear(t, s, all[0]); got != "here" {
		t.Errorf("the socket says %q", got)
	}
}

// What an earlier boot's process of our numbers left is ours to take.
func TestListenOverADeadOne(t *testing.T) {
	s := newStore(t)
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(s.Dir(), "run", "*"))
	l.Close()
	leave(t, s, filepath.Base(files[0]))
	if l, err = s.Listen(); err != nil {
		t.Fatal(err)
	}
	answer(t, l, "anew")
	all, _ := s.Processes()
	if got := hear(t, s, all[0]); got != "anew" {
		t.Errorf("the socket says %q", got)
	}
}

func FuzzParseProcess(f *testing.F) {
	f.Add("12-34.sock")
	f.Add("+1-2.sock")
	f.Add("-.sock")
	f.Fuzz(func(t *testing.T, name string) {
		if p, ok := content.ParseProcess(name); ok && (p.PID <= 0 || content.ProcessName(p) != name) {
			t.Errorf("%q is taken for %v", name, p)
		}
	})
}
