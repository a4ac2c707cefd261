package content_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// plant puts b into s as another tool would, last used so long ago, and returns its digest.
func plant(tb testing.TB, s *content.Store, b []byte, age time.Duration) digest.Digest {
	tb.Helper()
	dgst := digest.FromBytes(b)
	path := blobPath(s, dgst)
	if err := os.WriteFile(path, b, 0o444); err != nil {
		tb.Fatal(err)
	}
	setUsed(tb, path, age)
	return dgst
}

func blobPath(s *content.Store, dgst digest.Digest) string {
	return filepath.Join(s.Dir(), "blobs", dgst.Algorithm().String(), dgst.Encoded())
}

// setUsed makes a file one that was last used so long ago.
func setUsed(tb testing.TB, path string, age time.Duration) {
	tb.Helper()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		tb.Fatal(err)
	}
}

func hold(tb testing.TB, s *content.Store, dgst digest.Digest) (release func()) {
	tb.Helper()
	release, err := s.Hold(dgst)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return release
}

// useFile opens locks/use as another process would.
func useFile(t *testing.T, s *content.Store) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Dir(), "locks", "use"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// lockedAt returns the type of lock that somebody has on n bytes of f from off on, as who wants them alone is told.
func lockedAt(t *testing.T, f *os.File, off, n int64) int16 {
	t.Helper()
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: n}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		t.Fatal(err)
	}
	return lk.Type
}

// The byte of a digest is its first 62 bits, and a shared lock is on it while somebody holds the digest, in this process counted.
func TestHoldLocksOneByte(t *testing.T) {
	s := newStore(t)
	f := useFile(t, s)
	tests := []struct {
		hex  string
		byte int64
	}{
		{strings.Repeat("0", 64), 0},
		{"0000000000000004" + strings.Repeat("f", 48), 1},
		{"8000000000000000" + strings.Repeat("0", 48), 1 << 61},
		{strings.Repeat("f", 64), 1<<62 - 1},
		{"0123456789abcdef" + strings.Repeat("7", 48), 0x0123456789abcdef >> 2},
	}
	for _, tt := range tests {
		dgst := digest.NewDigestFromEncoded(digest.SHA256, tt.hex)
		first, second := hold(t, s, dgst), hold(t, s, dgst)
		for _, release := range []func(){first, first, second} {
			if got := lockedAt(t, f, tt.byte, 1); got != unix.F_RDLCK {
				t.Errorf("%s is held: the lock on byte %d is %d, want a shared one", dgst, tt.byte, got)
			}
			if tt.byte > 0 {
				if got := lockedAt(t, f, 0, tt.byte); got != unix.F_UNLCK {
					t.Errorf("%s is held: there is a lock below byte %d", dgst, tt.byte)
				}
			}
			if got := lockedAt(t, f, tt.byte+1, 0); got != unix.F_UNLCK {
				t.Errorf("%s is held: there is a lock behind byte %d", dgst, tt.byte)
			}
			release()
		}
		if got := lockedAt(t, f, 0, 0); got != unix.F_UNLCK {
			t.Errorf("%s is released: there is a lock", dgst)
		}
	}
}

// Who holds a digest waits for who is just evicting it.
func TestHoldWaitsForEviction(t *testing.T) {
	s := newStore(t)
	f := useFile(t, s)
	dgst := digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("0", 64))
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
		t.Fatal(err)
	}
	var evicted atomic.Bool
	held := make(chan bool)
	go func() {
		release, err := s.Hold(dgst)
		held <- err == nil && evicted.Load()
		if err == nil {
			release()
		}
	}()
	// Others aren't kept waiting by that.
	hold(t, s, digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("1", 64)))()
	evicted.Store(true)
	lk.Type = unix.F_UNLCK
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk); err != nil {
		t.Fatal(err)
	}
	if !<-held {
		t.Errorf("Hold came back before the eviction ended")
	}
}

// A Store that is closed keeps what is held, and no file behind that.
func TestHoldOutlivesClose(t *testing.T) {
	s := newStore(t)
	f := useFile(t, s)
	release := hold(t, s, digest.FromString("x"))
	s.Close()
	if got := lockedAt(t, f, 0, 0); got != unix.F_RDLCK {
		t.Errorf("after Close the lock of what is held is %d", got)
	}
	before := openFiles(t)
	release()
	if got := lockedAt(t, f, 0, 0); got != unix.F_UNLCK {
		t.Errorf("after Close and release there is a lock")
	}
	if after := openFiles(t); after != before-1 {
		t.Errorf("release behind Close left %d open files of %d", after, before)
	}
	if _, err := s.Hold(digest.FromString("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Hold of a closed store = %v, want os.ErrClosed", err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// To open a blob is a use, written to its atime at most once a minute.
func TestBlobIsUsed(t *testing.T) {
	s := newStore(t)
	dgst := plant(t, s, []byte("hello"), 0)
	path := blobPath(s, dgst)
	committed := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	for _, tt := range []struct {
		age     time.Duration
		touched bool
	}{{time.Hour, true}, {30 * time.Second, false}} {
		atime := time.Now().Add(-tt.age).Truncate(time.Second)
		if err := os.Chtimes(path, atime, committed); err != nil {
			t.Fatal(err)
		}
		f, err := s.Blob(dgst)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if got := time.Unix(st.Atim.Unix()); got.After(atime) != tt.touched {
			t.Errorf("last use %v ago: the atime went from %v to %v, want changed: %v", tt.age, atime, got, tt.touched)
		}
		if !fi.ModTime().Equal(committed) {
			t.Errorf("last use %v ago: the mtime went from %v to %v", tt.age, committed, fi.ModTime())
		}
	}
}

// useChild holds the digests of its arguments in the store dir until its stdin ends, and says "held".
func useChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	for _, arg := range args[1:] {
		if _, err := s.Hold(digest.Digest(arg)); err != nil {
			return err
		}
	}
	fmt.Println("held")
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	return err
}

// What a process has open no other evicts, until it ends, however.
func TestHeldByAnotherProcess(t *testing.T) {
	s := newStore(t)
	held, free := plant(t, s, []byte("held"), 2*time.Hour), plant(t, s, []byte("free"), time.Hour)
	cmd := child(t, "use", s.Dir(), held.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	startChild(t, cmd)
	if got := evict(t, s, content.EvictOptions{MaxSize: -1, DryRun: true}); len(got) != 1 || got[0].Digest != free {
		t.Errorf("a dry run beside its user would evict %v, want %s alone", got, free)
	}
	if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) != 1 || got[0].Digest != free {
		t.Errorf("Evict beside its user evicted %v, want %s alone", got, free)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) != 1 || got[0].Digest != held {
		t.Errorf("Evict behind its user evicted %v, want %s", got, held)
	}
	if _, err := s.Blob(held); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Blob of what was evicted = %v, want fs.ErrNotExist", err)
	}
}

// TestHoldReadOnly: a store on a file system that is read-only is one to read.
func TestHoldReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	s := open(t, filepath.Join(t.TempDir(), "store"))
	dgst := plant(t, s, []byte("held"), time.Hour)
	hold(t, s, dgst)()
	dir := t.TempDir()
	if err := unix.Mount(s.Dir(), dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	ro, err := content.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	hold(t, ro, dgst)
	if _, err := s.Evict(content.EvictOptions{OlderThan: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if _, err := ro.Stat(dgst); err != nil {
		t.Errorf("Stat of what is held = %v", err)
	}
}
