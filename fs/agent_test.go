package fs_test

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// An Agent is the program that uses a mount: this test binary, run again. A
// process that used what it serves itself could stop its whole runtime in a
// page fault, and not even be killed.
type Agent struct{}

// child is what the binary does when it is an agent.
func child() int {
	server := rpc.NewServer()
	if err := server.Register(Agent{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server.ServeConn(pipe{os.Stdin, os.Stdout})
	return 0
}

type pipe struct {
	io.Reader
	io.WriteCloser
}

// An agent is the other end.
type agent struct {
	tb  testing.TB
	cmd *exec.Cmd
	rpc *rpc.Client
}

func startAgent(tb testing.TB) *agent {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return startExecutable(tb, exe, nil)
}

func startExecutable(tb testing.TB, exe string, attr *syscall.SysProcAttr) *agent {
	tb.Helper()
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "FS_TEST_CHILD=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return &agent{tb: tb, cmd: cmd, rpc: rpc.NewClient(pipe{stdout, stdin})}
}

// stop ends the agent. What it has open is closed by that.
func (a *agent) stop() {
	a.cmd.Process.Kill()
	a.cmd.Wait()
	a.rpc.Close()
}

// call has the agent do something, and returns the errno that it got.
func call[A, R any](a *agent, method string, args A) (R, error) {
	r, wait := start[A, R](a, method, args)
	err := wait()
	return *r, err
}

// start is call without waiting: r is filled in when wait returned.
func start[A, R any](a *agent, method string, args A) (r *R, wait func() error) {
	r = new(R)
	c := a.rpc.Go("Agent."+method, args, r, make(chan *rpc.Call, 1))
	return r, func() error {
		select {
		case <-c.Done:
		case <-within(a.tb, timeLimit).Done():
			return errors.New("no answer from the agent")
		}
		var n int
		if c.Error == nil {
			return nil
		}
		if _, err := fmt.Sscanf(c.Error.Error(), "errno %d", &n); err == nil {
			return syscall.Errno(n)
		}
		return c.Error
	}
}

// wire makes an errno one that call understands.
func wire(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("errno %d", int(errno))
	}
	return err
}

// A Range is a part of a file. N < 0 is all of it.
type Range struct {
	Path string
	Off  int64
	N    int
}

func (Agent) Read(r Range, out *[]byte) error {
	fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire(err)
	}
	defer unix.Close(fd)
	return Agent{}.Pread(FileRange{fd, r.Off, r.N}, out)
}

// A FileRange is a part of an open file.
type FileRange struct {
	Fd  int
	Off int64
	N   int
}

func (Agent) Pread(r FileRange, out *[]byte) error {
	buf := make([]byte, 256<<10)
	for r.N != 0 {
		want := buf
		if r.N > 0 {
			want = buf[:min(r.N, len(buf))]
		}
		n, err := unix.Pread(r.Fd, want, r.Off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return wire(err)
		}
		if n == 0 {
			break
		}
		*out = append(*out, want[:n]...)
		r.Off += int64(n)
		if r.N > 0 {
			r.N -= n
		}
	}
	return nil
}

func (Agent) Open(path string, fd *int) (err error) {
	*fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return wire(err)
}

// Name looks a path up and does nothing else with it.
func (Agent) Name(path string, fd *int) (err error) {
	*fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return wire(err)
}

// Fstat is of an open file, or of one that was named.
func (Agent) Fstat(fd int, st *unix.Stat_t) error {
	return wire(unix.Fstatat(fd, "", st, unix.AT_EMPTY_PATH))
}

// Freadlink reads the link that was named.
func (Agent) Freadlink(fd int, target *string) error {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return wire(err)
	}
	*target = string(buf[:n])
	return nil
}

func (Agent) Close(fd int, _ *int) error { return wire(unix.Close(fd)) }

func (Agent) Stat(path string, st *unix.Stat_t) error { return wire(unix.Stat(path, st)) }

func (Agent) Lstat(path string, st *unix.Stat_t) error { return wire(unix.Lstat(path, st)) }

func (Agent) Statfs(path string, st *unix.Statfs_t) error { return wire(unix.Statfs(path, st)) }

func (Agent) Readlink(path string, target *string) (err error) {
	*target, err = os.Readlink(path)
	return wire(err)
}

func (Agent) List(path string, names *[]string) error {
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		*names = append(*names, e.Name())
	}
	return wire(err)
}

// Relist lists a directory that is open from its start.
func (Agent) Relist(fd int, names *[]string) error {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return wire(err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n == 0 {
			return wire(err)
		}
		_, _, *names = unix.ParseDirent(buf[:n], -1, *names)
	}
}

// Xattr returns an attribute; with an empty name the list of them.
func (Agent) Xattr(pathAndName [2]string, value *string) error {
	buf := make([]byte, 1<<16)
	var n int
	var err error
	if pathAndName[1] == "" {
		n, err = unix.Llistxattr(pathAndName[0], buf)
	} else {
		n, err = unix.Lgetxattr(pathAndName[0], pathAndName[1], buf)
	}
	if err != nil {
		return wire(err)
	}
	*value = string(buf[:n])
	return nil
}

// Seek opens a file and seeks in it; N is the whence.
func (Agent) Seek(r Range, off *int64) error {
	fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire(err)
	}
	defer unix.Close(fd)
	*off, err = unix.Seek(fd, r.Off, r.N)
	return wire(err)
}

// Sendfile opens a file and sends it with nothing asked about it before.
func (Agent) Sendfile(path string, n *int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire(err)
	}
	defer unix.Close(fd)
	null, err := os.CreateTemp("", "sendfile")
	if err != nil {
		return err
	}
	defer os.Remove(null.Name())
	defer null.Close()
	for {
		sent, err := unix.Sendfile(int(null.Fd()), fd, nil, 1<<20)
		if err != nil || sent == 0 {
			return wire(err)
		}
		*n += sent
	}
}

// Conform runs the conformance suite of the standard library.
func (Agent) Conform(args []string, _ *int) error {
	return fstest.TestFS(os.DirFS(args[0]), args[1:]...)
}
