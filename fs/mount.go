package fs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"distfs/locator"
)

// A Mounted is a file system that serves.
type Mounted struct {
	s       *server
	counted *counted
	at      mountInfo // as it was when it was mounted
	alive   *announcement
	done    chan struct{}
}

// Mount shows src at dir and returns when it serves. Over what a killed distfs
// left behind it mounts anew; where another one serves it refuses to.
//
// As root it mounts by itself, read-only, nosuid and nodev; for others
// fusermount3 does. The caller must Unmount, or Wait for somebody else to.
func Mount(dir string, src Source, hosts locator.Hosts, opts *Options) (*Mounted, error) {
	return newServer(src, hosts, opts.withDefaults()).attachTo(dir)
}

// attachTo mounts s at dir.
func (s *server) attachTo(dir string) (*Mounted, error) {
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
	var gone *notMountedError
	switch {
	case errors.As(err, &gone):
		return nil, fmt.Errorf("somebody unmounted it before it served: %w", err)
	case err != nil:
		return nil, errors.Join(err, detach(point, true))
	}
	return m, nil
}

// serve takes fd over.
func (s *server) serve(point string, fd int, options *fuse.MountOptions) (*Mounted, error) {
	mounted, err := topmost(point)
	if err == nil {
		err = s.conn.hold(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	alive, err := announce(s.opts.StateDir, mounted)
	if err != nil {
		s.conn.file.Close()
		unix.Close(fd)
		return nil, err
	}
	s.conn.limit = requestLimit()
	requests := &counted{server: s}
	srv, err := fuse.NewServer(requests, "/dev/fd/"+strconv.Itoa(fd), options)
	if err != nil {
		s.conn.file.Close()
		alive.withdraw()
		return nil, err
	}
	s.probe()
	s.lists.start(s)
	if os.Geteuid() == 0 {
		s.raiseReadahead(mounted.dev)
	}
	m := &Mounted{s: s, counted: requests, at: mounted, alive: alive, done: make(chan struct{})}
	go m.run(srv)
	return m, nil
}

// run ends when the kernel has ended the connection and all is given back.
func (m *Mounted) run(srv *fuse.Server) {
	defer close(m.done)
	srv.Serve()
	m.s.close()
	if err := m.leave(); err != nil {
		m.s.log.Warn("a dead mount is left", "mountpoint", m.at.point, "err", err)
	}
	m.s.conn.file.Close()
}

// Abandon detaches the mount, if it is still there, and takes back the word that
// it lives. It is for a process that is about to exit: who is still in gets
// errors from then on.
func (m *Mounted) Abandon() error { return m.leave() }

// leave takes back the word that the mount lives, and the mount itself if it is
// still there: then somebody aborted the connection. By now the mount's
// numbers can be another's. Who took over has left word in the place of ours.
func (m *Mounted) leave() error {
	unlock, err := lockState(m.s.opts.StateDir)
	if err != nil {
		m.alive.file.Close()
		return err
	}
	defer unlock()
	defer m.alive.withdraw()
	if !m.alive.stands() {
		return nil
	}
	if top, err := topmost(m.at.point); err != nil || top != m.at {
		return nil // it is gone, as it should be
	}
	return detach(m.at.point, true)
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
		s.log.Info("readahead stays small", "err", err)
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

// detach unmounts where the mount is now, if it still is anywhere. While the
// connection lives, what has the mount's numbers is the mount.
func (m *Mounted) detach() error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(mounts, func(o mountInfo) bool { return o.id == m.at.id && o.dev == m.at.dev })
	if i < 0 || m.s.conn.dead() {
		return nil
	}
	point := mounts[i].point
	if top, err := topmost(point); err != nil || top.id != m.at.id {
		return fmt.Errorf("%s: something else is mounted over it: %w", point, unix.EBUSY)
	}
	if detach(point, false) == nil {
		return nil
	}
	m.s.log.Warn("the mount is in use; it serves on until the last file is closed", "mountpoint", point)
	return detach(point, true)
}
