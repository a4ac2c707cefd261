package content

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Process is one that is at work on a store. Its socket is run/<pid>-<start>.sock; the start time tells it from a later
// process of the same number.
type Process struct {
	PID   int
	Start uint64 // in the kernel's ticks since boot: field 22 of /proc/<pid>/stat, see proc_pid_stat(5)
}

func (p Process) name() string {
	return strconv.Itoa(p.PID) + "-" + strconv.FormatUint(p.Start, 10) + socketSuffix
}

const socketSuffix = ".sock"

// parseProcess reads the name of a socket. Every other name is false.
func parseProcess(name string) (Process, bool) {
	base, ok := strings.CutSuffix(name, socketSuffix)
	number, start, ok2 := strings.Cut(base, "-")
	pid, err := strconv.ParseInt(number, 10, 32)
	ticks, err2 := strconv.ParseUint(start, 10, 64)
	p := Process{int(pid), ticks}
	if !ok || !ok2 || err != nil || err2 != nil || pid <= 0 || p.name() != name {
		return Process{}, false
	}
	return p, true
}

// Listen has this process be seen by the others on the store, at a socket that only the store's owner can connect to.
// The error is fs.ErrExist if it listens already. Closing the listener takes the socket away.
func (s *Store) Listen() (net.Listener, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	l, err := s.listen()
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", s.path("run"), err)
	}
	return l, nil
}

func (s *Store) listen() (net.Listener, error) {
	start, err := startOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.path("run"), 0o700); err != nil {
		return nil, err
	}
	dir, err := s.openRun()
	if err != nil {
		return nil, err
	}
	name := Process{os.Getpid(), start}.name()
	l, err := dir.listen(name)
	if errors.Is(err, unix.EADDRINUSE) {
		// Ours, or that of a process which had our numbers before the machine was booted.
		if dir.refuses(name) {
			os.Remove(dir.path(name))
			l, err = dir.listen(name)
		} else {
			err = iofs.ErrExist
		}
	}
	if err != nil {
		dir.close()
		return nil, err
	}
	return &listener{UnixListener: l, dir: dir, name: name}, nil
}

// A listener keeps the directory open, by which its socket is named.
type listener struct {
	*net.UnixListener
	dir  runDir
	name string
	once sync.Once
	err  error
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.err = l.UnixListener.Close()
		os.Remove(l.dir.path(l.name))
		l.dir.close()
	})
	return l.err
}

// Processes returns who is at work on the store, lowest number first, and removes the sockets of the dead.
func (s *Store) Processes() ([]Process, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("run"))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	dir, err := s.openRun()
	if err != nil {
		return nil, err
	}
	defer dir.close()
	var live []Process
	for _, e := range entries {
		p, ok := parseProcess(e.Name())
		if !ok {
			continue
		}
		// One of another pid namespace is not to be seen, but takes connections.
		if start, err := startOf(p.PID); (err != nil || start != p.Start) && dir.refuses(e.Name()) {
			os.Remove(dir.path(e.Name()))
			continue
		}
		live = append(live, p)
	}
	slices.SortFunc(live, func(a, b Process) int { return a.PID - b.PID })
	return live, nil
}

// Dial connects to p's socket. That of a process which ended meanwhile is fs.ErrNotExist or syscall.ECONNREFUSED.
func (s *Store) Dial(ctx context.Context, p Process) (net.Conn, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	dir, err := s.openRun()
	if err != nil {
		return nil, err
	}
	defer dir.close()
	return new(net.Dialer).DialContext(ctx, "unix", dir.path(p.name()))
}

// A runDir is the directory run/, open. Sockets are named by its descriptor: their addresses have 108 bytes (unix(7)),
// and a store may lie deeper.
type runDir struct{ f *os.File }

func (s *Store) openRun() (runDir, error) {
	f, err := os.Open(s.path("run"))
	return runDir{f}, err
}

func (d runDir) path(name string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(d.f.Fd())), name)
}

func (d runDir) close() { d.f.Close() }

func (d runDir) listen(name string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.path(name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // Close of listener does
	if err := os.Chmod(d.path(name), 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// refuses says whether nobody listens at a socket.
func (d runDir) refuses(name string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Connect(fd, &unix.SockaddrUnix{Name: d.path(name)}), unix.ECONNREFUSED)
}

// startOf returns when the process began. The name in /proc/<pid>/stat may hold blanks and brackets: what counts begins
// behind the last bracket, with field 3.
func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const start = 22 - 3
	if len(fields) <= start {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	return strconv.ParseUint(fields[start], 10, 64)
}
