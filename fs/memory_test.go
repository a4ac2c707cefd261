package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"distfs/fs"
)

// stuck are the objects that an agent serves of which nothing comes.
var stuck struct {
	blobs  []*blob
	shared []byte
}

// MountStuck serves objects that are stuck, from the agent.
func (Agent) MountStuck(args MountArgs, paths *[]string) error {
	src := &source{dir: args.Store, blobs: map[string]*blob{}}
	stuck.shared = content(1, 9<<20)
	for i := range 200 {
		b := src.addAs(repo, "", digest.FromString(fmt.Sprint(i)), stuck.shared).gate()
		stuck.blobs = append(stuck.blobs, b)
		*paths = append(*paths, b.path())
	}
	_, err := fs.Mount(args.Dir, src, nil, &fs.Options{StateDir: args.State, Verify: fs.NeverHold})
	runtime.GC()
	return err
}

// Waiting returns how many reads are stuck.
func (Agent) Waiting(_ int, n *int) error {
	for _, b := range stuck.blobs {
		b.edit(func(b *blob) { *n += min(b.waiting, 1) })
	}
	return nil
}

// Release has everything come at once.
func (Agent) Release(int, *int) error {
	for _, b := range stuck.blobs {
		b.edit(func(b *blob) { b.gated = false })
	}
	return nil
}

// Peak returns the most memory that the agent had, in KiB.
func (Agent) Peak(_ int, kib *int) error {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	_, err = fmt.Sscan(after, kib)
	return err
}

// TestMemory has 200 readers stuck, each with a request of 1 MiB, then lets
// all go at once, again and again.
func TestMemory(t *testing.T) {
	needMounts(t)
	if os.Geteuid() != 0 {
		t.Skip("only root gets requests of 1 MiB")
	}
	args := MountArgs{t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")}
	server, user := startAgent(t), startAgent(t)
	defer fs.Unmount(args.Dir, 0)
	defer server.stop()
	defer user.stop()
	paths, err := call[MountArgs, []string](server, "MountStuck", args)
	if err != nil {
		t.Fatal(err)
	}
	peak := func() int {
		n, err := call[int, int](server, "Peak", 0)
		if err != nil {
			t.Fatal(err)
		}
		return n >> 10
	}
	before := peak()
	var wg sync.WaitGroup
	for _, path := range paths {
		_, wait := start[Repeat, int64](user, "Cat", Repeat{filepath.Join(args.Dir, path), 1})
		wg.Go(func() {
			if err := wait(); err != nil {
				t.Error(err)
			}
		})
	}
	for n := 0; n < len(paths); {
		if n, err = call[int, int](server, "Waiting", 0); err != nil {
			t.Fatal(err)
		}
	}
	waiting := peak()
	if _, err := call[int, int](server, "Release", 0); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	after := peak()
	t.Logf("peak memory: %d MiB before, %d MiB with 200 stuck readers, %d MiB after they were released", before, waiting, after)
	if after-before > 128 && !raceEnabled {
		t.Errorf("200 readers took %d MiB", after-before)
	}
}
