package fetch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// runAsProcess makes the test binary a process that reads one object through
// its own fetcher, as DISTFS_FETCH_PROCESS says: STORE HOST PATH DIGEST SIZE
// HOW. It says "read OFFSET" after each chunk, and "done" at last.
func runAsProcess() bool {
	args := strings.Fields(os.Getenv("DISTFS_FETCH_PROCESS"))
	if len(args) == 0 {
		return false
	}
	if err := readAsProcess(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("done")
	return true
}

func readAsProcess(args []string) error {
	store, err := content.Open(args[0])
	if err != nil {
		return err
	}
	defer store.Close()
	f := fetch.New(store, nil, &fetch.Options{FillBelow: -1, DockerConfig: args[0] + "/none.json"})
	defer f.Close()
	size, err := strconv.ParseInt(args[4], 10, 64)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	o, err := f.Open(ctx, locator.Locator{Host: args[1], Path: args[2]}, ocispec.Descriptor{Digest: digest.Digest(args[3]), Size: size})
	if err != nil {
		return err
	}
	defer o.Close()
	offsets := rand.Perm(int(size / mib))
	if args[5] == "sequential" {
		for i := range offsets {
			offsets[i] = i
		}
	}
	if args[5] == "whole" {
		offsets = nil
	}
	p := make([]byte, 64<<10)
	for _, c := range offsets {
		if _, err := o.ReadAt(ctx, p, int64(c)*mib+100); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		fmt.Println("read", c)
	}
	return o.Commit(ctx)
}

func process(t *testing.T, b *bench, desc ocispec.Descriptor, how string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("DISTFS_FETCH_PROCESS=%s %s %s %s %d %s", b.dir+"/store", b.loc.Host, b.loc.Path, desc.Digest, desc.Size, how))
	cmd.Stderr = os.Stderr
	return cmd
}

// TestProcessesFetchOnce has four processes read one object at once, in
// sequence and at random, and fetch the whole of it: the registry sends it once.
// Who finds another's claim before its own asks for no less at a time for that.
func TestProcessesFetchOnce(t *testing.T) {
	for _, how := range []string{"sequential", "random", "whole"} {
		b := setup(t, nil, nil)
		s := testregistry.Synthetic{Seed: 7, Size: 96 * mib}
		desc := ocispec.Descriptor{Digest: b.reg.AddSynthetic(b.loc.Path, s), Size: s.Size}
		var wg sync.WaitGroup
		for range 4 {
			cmd := process(t, b, desc, how)
			wg.Go(func() {
				if out, err := cmd.Output(); err != nil || !strings.HasSuffix(string(out), "done\n") {
					t.Errorf("%s: %v", how, err)
				}
			})
		}
		wg.Wait()
		if got := b.reg.Sent(desc.Digest); got != s.Size {
			t.Errorf("%s: sent %d bytes, want %d", how, got, s.Size)
		}
		if n := len(b.reg.Ranges(desc.Digest)); how == "whole" && n > 30 {
			t.Errorf("%s: %d requests for 96 chunks", how, n)
		}
	}
}

// TestKilledProcessesLoseNothing kills a reader 50 times in the middle of its
// reads. What the map had is not asked for again.
func TestKilledProcessesLoseNothing(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 10
	}
	b := setup(t, nil, nil)
	s := testregistry.Synthetic{Seed: 8, Size: 256 * mib}
	desc := ocispec.Descriptor{Digest: b.reg.AddSynthetic(b.loc.Path, s), Size: s.Size}
	asked := make(map[int64]bool) // chunks that the map had, as bytes sent again would show
	for i := range kills {
		have := local(b, desc)
		for c := range have {
			asked[c] = true
		}
		b.reg.Forget()
		cmd := process(t, b, desc, "random")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 1 + i%4; n > 0 && lines.Scan(); n-- {
		}
		cmd.Process.Kill()
		cmd.Wait()
		b.reg.Wait(t, func(rs []testregistry.Request) bool {
			for _, r := range rs {
				if !r.Done {
					return false
				}
			}
			return true
		})
		for _, r := range b.reg.Ranges(desc.Digest) {
			var first, last int64
			if _, err := fmt.Sscanf(r, "bytes=%d-%d", &first, &last); err != nil {
				t.Fatalf("range %q", r)
			}
			for c := first / mib; c <= last/mib; c++ {
				if asked[c] {
					t.Errorf("kill %d: chunk %d was here and is asked for again", i, c)
				}
			}
		}
	}
	o := b.object(desc)
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatalf("Commit after %d kills: %v", kills, err)
	}
}

// local returns the chunks of desc that the store's map has.
func local(b *bench, desc ocispec.Descriptor) map[int64]bool {
	b.t.Helper()
	in, err := b.store.Ingest(content.Expect{Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size, Ref: b.loc.String() + "@" + desc.Digest.String()})
	if err != nil {
		b.t.Fatal(err)
	}
	defer in.Close()
	have := make(map[int64]bool)
	for c := range in.Chunks() {
		if in.Has(c, 1) {
			have[c] = true
		}
	}
	return have
}
