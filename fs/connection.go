package fs

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A connection is what ties a server to the kernel.
type connection struct {
	srv    *fuse.Server
	file   *os.File      // /dev/fuse, a descriptor beside the one that go-fuse closes after the last request
	limit  time.Duration // how long a request may take, 0 for no bound
	passes bool          // the kernel reads whole objects from the store's files
}

// hold keeps fd for dead, beside whoever owns it.
func (c *connection) hold(fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.file = os.NewFile(uintptr(dup), "/dev/fuse")
	return nil
}

// dead says whether the kernel has ended the connection. If not, the numbers
// that it gave the mount are not yet anybody else's.
func (c *connection) dead() bool {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return true
	}
	dead := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		dead = err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
	})
	return dead || err != nil
}

// register gives the kernel a file to read from, and returns its number for
// it. The kernel keeps the file open until that is unregistered.
func (c *connection) register(f *os.File) (int32, error) {
	id, errno := c.srv.RegisterBackingFd(&fuse.BackingMap{Fd: int32(f.Fd())})
	if errno != 0 {
		return 0, fmt.Errorf("register %s: %w", f.Name(), errno)
	}
	return id, nil
}

// unregister lets go of a file. It can only fail when the connection is gone,
// and the number with it.
func (c *connection) unregister(id int32) { _ = c.srv.UnregisterBackingFd(id) }

// probe says whether the kernel would read from files in dir: it does for a
// privileged mounter, and where not too many file systems are stacked.
func (c *connection) probe(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("temporary file in %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	id, err := c.register(f)
	if err != nil {
		return err
	}
	c.unregister(id)
	return nil
}

// stackDepth is how many file systems may lie below a file that the kernel
// reads from. With 2 nothing can be stacked on the mount, so that is only for
// a store that lies on an overlay itself.
func stackDepth(storeDir string) int {
	var st unix.Statfs_t
	if unix.Statfs(storeDir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return 2
	}
	return 1
}

// requestLimit reads what the kernel was told about how long a request may
// take; past it the whole mount is aborted.
func requestLimit() time.Duration {
	byDefault, most := requestTimeout("default"), requestTimeout("max")
	if most > 0 && (byDefault == 0 || byDefault > most) {
		byDefault = most
	}
	return byDefault - byDefault/4
}

func requestTimeout(which string) time.Duration {
	b, err := os.ReadFile("/proc/sys/fs/fuse/" + which + "_request_timeout")
	if err != nil {
		return 0
	}
	seconds, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

const (
	fsName = "distfs"
	fsType = "fuse." + fsName
)

// fuseOptions are those of every mount.
func fuseOptions(s *server) *fuse.MountOptions {
	opts := &fuse.MountOptions{
		Name:                     fsName,
		MaxWrite:                 maxRequest,
		MaxBackground:            1024, // with the default of 12, twelve stuck reads hold up all others
		DisableSplice:            true,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities:        fuse.CAP_READDIRPLUS_AUTO,
		MaxStackDepth:            stackDepth(s.src.StoreDir()),
		Logger:                   log.New(debugWriter{s.log}, "", 0),
		PanicHandler: func(reason any) fuse.Status {
			s.log.Error("panic", "reason", reason, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
	if s.opts.NoPassthrough {
		opts.DisabledCapabilities |= fuse.CAP_PASSTHROUGH
	}
	return opts
}

// debugWriter takes the lines that go-fuse writes: mostly that somebody did not
// wait for an answer.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.log.LogAttrs(context.Background(), slog.LevelDebug, strings.TrimSpace(string(line)))
	return len(line), nil
}
