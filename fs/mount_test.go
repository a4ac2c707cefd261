package fs_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"distfs/fs"
	"distfs/locator"
)

func TestMain(m *testing.M) {
	if os.Getenv("FS_TEST_CHILD") != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// A mount is a mounted source.
type mount struct {
	*fs.Mounted
	tb    testing.TB
	dir   string
	log   *lines
	agent *agent // who uses it
}

// path is that of a name below the mount.
func (m *mount) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// mountSource mounts src until the test ends, when nothing may be open any
// more, of the source or of this process.
func mountSource(tb testing.TB, src *source, opts *fs.Options) *mount {
	tb.Helper()
	return mountBy(tb, src, opts, func(dir string, hosts locator.Hosts, opts *fs.Options) (*fs.Mounted, error) {
		return fs.Mount(dir, src, hosts, opts)
	})
}

// mountImage mounts one image alone.
func mountImage(tb testing.TB, src *source, im files) *mount {
	tb.Helper()
	return mountBy(tb, src, nil, func(dir string, hosts locator.Hosts, opts *fs.Options) (*fs.Mounted, error) {
		ref := locator.Reference{Locator: im.manifest.loc, Digest: im.manifest.desc.Digest}
		return fs.MountImage(tb.Context(), dir, src, hosts, ref, opts)
	})
}

func mountBy(tb testing.TB, src *source, opts *fs.Options, by func(string, locator.Hosts, *fs.Options) (*fs.Mounted, error)) *mount {
	tb.Helper()
	needMounts(tb)
	m := &mount{tb: tb, dir: tb.TempDir(), log: &lines{}}
	if opts == nil {
		opts = &fs.Options{}
	}
	opts.Log = slog.New(slog.NewTextHandler(m.log, nil))
	if opts.StateDir == "" {
		opts.StateDir = filepath.Join(tb.TempDir(), "state")
	}
	if opts.Grace == 0 {
		opts.Grace = 5 * time.Second
	}
	before := openFiles(tb)
	mounted, err := by(m.dir, locator.Hosts{"local": {}}, opts)
	if err != nil {
		tb.Fatal(err)
	}
	src.mounts++
	m.Mounted, m.agent = mounted, startAgent(tb)
	tb.Cleanup(func() {
		m.agent.stop()
		if err := mounted.Unmount(); err != nil {
			tb.Error(err)
		}
		if src.mounts--; src.mounts > 0 {
			return // what is open may be the other mounts'
		}
		for k, b := range src.blobs {
			if n := b.openNow(); n != 0 {
				tb.Errorf("%s is open %d times after the mount", k, n)
			}
		}
		if src.files != 0 {
			tb.Errorf("%d files of layers are open after the mount", src.files)
		}
		if after := openFiles(tb); !slices.Equal(before, after) {
			tb.Errorf("open files after the mount: %q, before: %q", after, before)
		}
		if tb.Failed() {
			tb.Log(m.log.String())
		}
	})
	return m
}

func needMounts(tb testing.TB) {
	tb.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
		f.Close()
		return
	}
	if os.Getenv("CI") != "" {
		tb.Fatal("/dev/fuse can't be opened")
	}
	tb.Skip("/dev/fuse can't be opened")
}

// openFiles are the files that this process has open, but for those of the
// runtime, and the blobs of sources.
func openFiles(tb testing.TB) []string {
	tb.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, fd := range fds {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && !strings.Contains(name, "anon_inode") && !strings.Contains(name, "/blob-") &&
			!strings.HasPrefix(name, "/proc/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// within returns a context that ends the test's waiting.
func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	tb.Cleanup(cancel)
	return ctx
}

// run runs a command that must exit 0 and returns what it wrote to stdout.
func run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(within(tb, time.Minute), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	if stderr.Len() > 0 {
		tb.Errorf("%s %q wrote to stderr: %s", name, args, stderr.String())
	}
	return string(out)
}

// timeLimit is how long anything may take that a test waits for.
const timeLimit = 5 * time.Minute

// read returns what the agent reads from path.
func (m *mount) read(path string) ([]byte, error) {
	return call[Range, []byte](m.agent, "Read", Range{path, 0, -1})
}

// wantRead reads all of path.
func (m *mount) wantRead(path string, want []byte) {
	m.tb.Helper()
	got, err := m.read(path)
	if err != nil {
		m.tb.Errorf("read %s: %v", path, err)
	} else if !bytes.Equal(got, want) {
		m.tb.Errorf("read %s: %d bytes that differ from the %d wanted", path, len(got), len(want))
	}
}

func (m *mount) stat(path string) unix.Stat_t {
	m.tb.Helper()
	st, err := call[string, unix.Stat_t](m.agent, "Lstat", path)
	if err != nil {
		m.tb.Errorf("stat %s: %v", path, err)
	}
	return st
}

func (m *mount) list(elem ...string) []string {
	m.tb.Helper()
	names, err := call[string, []string](m.agent, "List", m.path(elem...))
	if err != nil {
		m.tb.Errorf("list %s: %v", m.path(elem...), err)
	}
	return names
}
