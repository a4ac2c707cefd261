package fs_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"distfs/fs"
	"distfs/locator"
)

// TestBusy unmounts under somebody who reads: nobody new gets in, and who is
// in is served to the end.
func TestBusy(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 9<<20)).gate()
	m := mountSource(t, src, nil)
	fd, err := call[string, int](m.agent, "Open", m.path(b.path()))
	if err != nil {
		t.Fatal(err)
	}
	got, wait := start[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, -1})
	b.waitFor(t, func(b *blob) bool { return b.waiting > 0 })
	unmounted := make(chan error, 1)
	go func() { unmounted <- m.Unmount() }()
	ctx := within(t, timeLimit)
	for err := error(nil); !errors.Is(err, syscall.ENOENT); {
		if _, err = call[string, unix.Stat_t](m.agent, "Lstat", m.path("reg.example")); ctx.Err() != nil {
			t.Fatal("the mount is still there")
		}
	}
	b.edit(func(b *blob) { b.gated = false })
	if err := wait(); err != nil || !bytes.Equal(*got, b.content) {
		t.Errorf("who was in read %d bytes, %v", len(*got), err)
	}
	if _, err := call[int, int](m.agent, "Close", fd); err != nil {
		t.Error(err)
	}
	if err := <-unmounted; err != nil {
		t.Error(err)
	}
}

func TestGrace(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 10))
	m := mountSource(t, src, &fs.Options{Grace: time.Millisecond})
	fd, err := call[string, int](m.agent, "Open", m.path(b.path()))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Unmount = %v, want os.ErrDeadlineExceeded", err)
	}
	if _, err := call[int, int](m.agent, "Close", fd); err != nil {
		t.Error(err)
	}
	m.Wait()
}

// TestUnmountStuck kills a reader that is stuck and unmounts: its request ends
// with the connection.
func TestUnmountStuck(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 9<<20)).gate()
	m := mountSource(t, src, nil)
	start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), 0, -1})
	b.waitFor(t, func(b *blob) bool { return b.waiting > 0 })
	m.agent.stop()
	began := time.Now()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	t.Logf("took %v", time.Since(began))
}

// A MountArgs is what an agent mounts, and where.
type MountArgs struct{ Dir, Store, State string }

// Mount serves one object from the agent, until it is killed.
func (Agent) Mount(args MountArgs, path *string) error {
	src := &source{dir: args.Store, blobs: map[string]*blob{}}
	b := src.add(repo, "", content(1, 9<<20))
	*path = b.path()
	_, err := fs.Mount(args.Dir, src, nil, &fs.Options{StateDir: args.State})
	return err
}

// Descriptors lists what a child of the agent inherits.
func (Agent) Descriptors(_ int, out *string) error {
	b, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
	*out = string(b)
	return err
}

func TestDeadMount(t *testing.T) {
	needMounts(t)
	args := MountArgs{t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")}
	user := startAgent(t)
	defer user.stop()
	stat := func(host string) error {
		_, err := call[string, unix.Stat_t](user, "Lstat", filepath.Join(args.Dir, host))
		return err
	}
	for i := range 3 {
		server := startAgent(t)
		path, err := call[MountArgs, string](server, "Mount", args)
		if err != nil {
			t.Fatalf("mount %d: %v", i, err)
		}
		got, err := call[Range, []byte](user, "Read", Range{filepath.Join(args.Dir, path), 0, -1})
		if err != nil || !bytes.Equal(got, content(1, 9<<20)) {
			t.Errorf("mount %d: read %d bytes, %v", i, len(got), err)
		}
		if out, err := call[int, string](server, "Descriptors", 0); err != nil || strings.Contains(out, "/dev/fuse") {
			t.Errorf("a child inherits %s, %v", out, err)
		}
		src := newSource(t)
		if _, err := fs.Mount(args.Dir, src, nil, &fs.Options{StateDir: args.State}); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("mount over one that lives: %v, want EBUSY", err)
		}
		server.stop()
		if err := stat("new.example"); !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("stat of a dead mount: %v, want ENOTCONN", err)
		}
	}
	if _, err := fs.Mount(args.Dir, newSource(t), nil, &fs.Options{StateDir: filepath.Join(t.TempDir(), "other")}); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("mount over what another state directory may know: %v, want EBUSY", err)
	}
	m, err := fs.Mount(args.Dir, newSource(t), nil, &fs.Options{StateDir: args.State})
	if err != nil {
		t.Fatal(err)
	}
	if err := stat("reg.example"); err != nil {
		t.Errorf("stat after the remount: %v", err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if err := stat("reg.example"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("stat after all: %v, want ENOENT", err)
	}
	if left, err := os.ReadDir(args.State); err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("the state directory has %v, %v", left, err)
	}
}

// TestLinkToMount mounts over a dead mount, named by a link to it.
func TestLinkToMount(t *testing.T) {
	needMounts(t)
	link := filepath.Join(t.TempDir(), "link")
	args := MountArgs{t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")}
	if err := os.Symlink(args.Dir, link); err != nil {
		t.Fatal(err)
	}
	server := startAgent(t)
	if _, err := call[MountArgs, string](server, "Mount", args); err != nil {
		t.Fatal(err)
	}
	server.stop()
	m, err := fs.Mount(link, newSource(t), nil, &fs.Options{StateDir: args.State})
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Unmount(link, 0); err != nil {
		t.Error(err)
	}
	m.Wait()
}

// TestUnmountTwice wants the second call to leave alone what was mounted since:
// the kernel gives the numbers of a mount that is gone to the next one.
func TestUnmountTwice(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 10))
	var gone []*mount
	for range 4 {
		m := mountSource(t, src, nil)
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		gone = append(gone, m)
	}
	m := mountSource(t, src, nil)
	for _, g := range gone {
		if err := g.Unmount(); err != nil {
			t.Error(err)
		}
	}
	m.wantRead(m.path(b.path()), b.content)
}

// TestRemount mounts anew at once, while the one before may not be done yet.
func TestRemount(t *testing.T) {
	needMounts(t)
	dir, src, opts := t.TempDir(), newSource(t), &fs.Options{StateDir: filepath.Join(t.TempDir(), "state")}
	for i := range 50 {
		m, err := fs.Mount(dir, src, nil, opts)
		if err != nil {
			t.Fatalf("mount %d: %v", i, err)
		}
		defer m.Wait()
		if err := fs.Unmount(dir, 0); err != nil {
			t.Fatalf("unmount %d: %v", i, err)
		}
	}
}

// TestAborted has the kernel end a connection that is in use: the mount goes.
func TestAborted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can abort a connection")
	}
	src := newSource(t)
	b := src.add(repo, "", content(1, 9<<20)).gate()
	m := mountSource(t, src, nil)
	_, wait := start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), 0, -1})
	b.waitFor(t, func(b *blob) bool { return b.waiting > 0 })
	if err := unix.Unmount(m.dir, unix.MNT_FORCE); err == nil {
		t.Error("a mount in use was unmounted")
	}
	if err := wait(); err == nil {
		t.Error("the read ended well")
	}
	m.Wait()
	if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path("other.example")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("stat below the mount point: %v, want ENOENT", err)
	}
}

func TestUnmount(t *testing.T) {
	needMounts(t)
	args := MountArgs{t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")}
	if err := fs.Unmount(args.Dir, 0); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Unmount of no mount = %v", err)
	}
	if err := fs.Unmount("/proc", 0); err == nil || !strings.Contains(err.Error(), "not distfs") {
		t.Errorf("Unmount of another file system = %v", err)
	}
	for _, dead := range []bool{false, true} {
		server := startAgent(t)
		if _, err := call[MountArgs, string](server, "Mount", args); err != nil {
			t.Fatal(err)
		}
		if dead {
			server.stop()
		}
		if err := fs.Unmount(args.Dir, 0); err != nil {
			t.Errorf("Unmount, dead %v: %v", dead, err)
		}
		if !dead {
			server.stop()
		}
	}
}

// openDevice lets all users open /dev/fuse while the test runs, as udev has it;
// in a container it may be root's alone.
func openDevice(t *testing.T) {
	t.Helper()
	const device = "/dev/fuse"
	info, err := os.Stat(device)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&0o006 == 0o006 {
		return
	}
	t.Logf("%s is opened to all users for this test", device)
	if err := os.Chmod(device, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(device, info.Mode().Perm()) })
}

// TestUser mounts as somebody who is not root, by fusermount3.
func TestUser(t *testing.T) {
	needMounts(t)
	if os.Geteuid() != 0 {
		t.Skip("the other tests mount as this user already")
	}
	openDevice(t)
	const nobody = 65534
	base := t.TempDir()
	own := func(name string) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for dir := base; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(base, "agent")
	copyExecutable(t, exe)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	args := MountArgs{own("mnt"), own("store"), filepath.Join(own("run"), "state")}
	for range 2 { // the second one over what the first one left
		server := startExecutable(t, exe, as)
		path, err := call[MountArgs, string](server, "Mount", args)
		if err != nil {
			t.Fatal(err)
		}
		user := startExecutable(t, exe, as)
		got, err := call[Range, []byte](user, "Read", Range{filepath.Join(args.Dir, path), 0, -1})
		if err != nil || !bytes.Equal(got, content(1, 9<<20)) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		root := startAgent(t)
		if _, err := call[string, unix.Stat_t](root, "Lstat", filepath.Join(args.Dir, path)); !errors.Is(err, syscall.EACCES) {
			t.Errorf("stat by another user: %v, want EACCES", err)
		}
		root.stop()
		if out, err := call[int, string](server, "Descriptors", 0); err != nil || strings.Contains(out, "/dev/fuse") {
			t.Errorf("a child inherits %s, %v", out, err)
		}
		user.stop()
		server.stop()
	}
	if err := fs.Unmount(args.Dir, 0); err != nil {
		t.Error(err)
	}
}

func copyExecutable(t *testing.T, to string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAllowOther lets another user in, by the mode bits.
func TestAllowOther(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	src := newSource(t)
	b := src.add(repo, "", content(1, 100))
	for _, allow := range []bool{false, true} {
		m := mountSource(t, src, &fs.Options{AllowOther: allow})
		for dir := m.dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
			unix.Chmod(filepath.Dir(dir), 0o755)
			if filepath.Dir(dir) == os.TempDir() {
				break
			}
		}
		cmd := exec.CommandContext(within(t, timeLimit), "cat", m.path(b.path()))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		got, err := cmd.Output()
		if allow != (err == nil) || allow && !bytes.Equal(got, b.content) {
			t.Errorf("AllowOther %v: another user reads %d bytes, %v", allow, len(got), err)
		}
	}
}

// TestMountRefuses wants errors that say what is wrong, and nothing mounted.
func TestMountRefuses(t *testing.T) {
	needMounts(t)
	src, state := newSource(t), filepath.Join(t.TempDir(), "state")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]error{
		filepath.Join(file, "x"):        syscall.ENOTDIR,
		file:                            syscall.ENOTDIR,
		filepath.Join(t.TempDir(), "x"): syscall.ENOENT,
	} {
		if _, err := fs.Mount(dir, src, locator.Hosts{}, &fs.Options{StateDir: state}); !errors.Is(err, want) {
			t.Errorf("mount %s: %v, want %v", dir, err, want)
		}
	}
	if _, err := fs.Mount(t.TempDir(), src, nil, &fs.Options{StateDir: open}); err == nil {
		t.Errorf("mount with a state directory that all can write to works")
	}
	nowhere := &fs.Options{StateDir: filepath.Join(t.TempDir(), "none", "x")}
	if _, err := fs.Mount(t.TempDir(), src, nil, nowhere); !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "$XDG_RUNTIME_DIR") {
		t.Errorf("mount without a state directory: %v, want what it may be", err)
	}
}
