package fs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"distfs/locator"
)

// A Mounted is a file system that serves.
type Mounted struct {
	s     *server
	id    int // of the mount, in this mount namespace
	dev   string
	alive *os.File // says that the mount is served, as long as it is open
	done  chan struct{}
}

// Mount shows src at dir and returns when it serves. Over what a killed distfs
// left behind it mounts anew; where another one serves it refuses to.
//
// As root it mounts by itself, read-only, nosuid and nodev; for others
// fusermount3 does. The caller must Unmount, or Wait for somebody else to.
func Mount(dir string, src Source, hosts locator.Hosts, opts *Options) (*Mounted, error) {
	s := newServer(src, hosts, opts.withDefaults())
	point, err := resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	unlock, err := lockState(s.opts.StateDir)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	defer unlock()
	if err := clearDead(point, s.opts.StateDir); err != nil {
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	m, err := s.mount(point)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	return m, nil
}

// mount attaches the server to point and starts it.
func (s *server) mount(point string) (*Mounted, error) {
	options := fuseOptions(s)
	fd, err := attach(point, &s.opts)
	if err != nil {
		return nil, err
	}
	m, err := s.serve(point, fd, options)
	if err != nil {
		return nil, errors.Join(err, detach(point, true))
	}
	return m, nil
}

// serve takes fd over.
func (s *server) serve(point string, fd int, options *fuse.MountOptions) (*Mounted, error) {
	mounted, err := topmost(point)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	alive, err := announce(s.opts.StateDir, mounted)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.conn.fd, s.conn.limit = fd, requestLimit()
	srv, err := fuse.NewServer(s, "/dev/fd/"+strconv.Itoa(fd), options)
	if err != nil {
		withdraw(alive)
		return nil, err
	}
	s.probe()
	if os.Geteuid() == 0 {
		s.raiseReadahead(mounted.dev)
	}
	m := &Mounted{s: s, id: mounted.id, dev: mounted.dev, alive: alive, done: make(chan struct{})}
	go m.run(srv)
	return m, nil
}

// run ends when the kernel has ended the connection and all is given back.
func (m *Mounted) run(srv *fuse.Server) {
	defer close(m.done)
	srv.Serve()
	m.s.close()
	withdraw(m.alive)
}

// probe finds out, once, who reads whole objects.
func (s *server) probe() {
	if s.opts.NoPassthrough {
		s.log.Info("whole objects are read without passthrough", "reason", "as asked")
		return
	}
	err := s.conn.probe(s.src.StoreDir())
	s.conn.passes = err == nil
	if err != nil {
		s.log.Info("whole objects are read without passthrough", "reason", err)
		return
	}
	s.log.Info("whole objects are read by passthrough")
}

// readaheadKB makes the kernel ask for 1 MiB at a time instead of 128 KiB:
// twice as fast cold, at half the CPU.
const readaheadKB = "1024"

func (s *server) raiseReadahead(dev string) {
	err := os.WriteFile("/sys/class/bdi/"+dev+"/read_ahead_kb", []byte(readaheadKB), 0)
	if err != nil {
		s.log.Info("readahead stays small", "error", err)
	}
}

// Wait returns when the mount is gone, whoever unmounted it.
func (m *Mounted) Wait() { <-m.done }

// Unmount takes the mount away and returns when nobody uses it any more. If
// somebody does, the mount is detached, so that nobody new gets in, and those
// who are in are served on until they leave. After Options.Grace it returns
// an error that is os.ErrDeadlineExceeded: what then is left ends with the
// process.
func (m *Mounted) Unmount() error {
	if err := m.detach(); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	select {
	case <-m.done:
		return nil
	case <-time.After(m.s.opts.Grace):
		return fmt.Errorf("unmount: still in use after %v: %w", m.s.opts.Grace, os.ErrDeadlineExceeded)
	}
}

// detach unmounts where the mount is now, if it still is anywhere.
func (m *Mounted) detach() error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for _, mounted := range mounts {
		if mounted.id != m.id || mounted.dev != m.dev {
			continue
		}
		if top, err := topmost(mounted.point); err != nil || top.id != m.id {
			return fmt.Errorf("%s: something else is mounted over it: %w", mounted.point, unix.EBUSY)
		}
		if detach(mounted.point, false) == nil {
			return nil
		}
		m.s.log.Warn("the mount is in use; it serves on until the last file is closed", "mountpoint", mounted.point)
		return detach(mounted.point, true)
	}
	return nil
}
