package content_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"distfs/content"

	"golang.org/x/sys/unix"
)

const cutSize = 40*mib + 5

// cutChild fills an ingest in random order, commits it, and begins the next, and says on stdout what must outlive a power cut:
// "synced SEED CHUNK…" and "committed SEED".
func cutChild(args []string) error {
	s, err := content.OpenBoot(args[0], bootA)
	if err != nil {
		return err
	}
	for seed := uint64(50); ; seed++ {
		b := randomBytes(seed, cutSize)
		g, err := s.Ingest(expect(b))
		if errors.Is(err, iofs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		filled, checkpointed := make(chan error, 1), make(chan struct{})
		go func() { filled <- fillShuffled(g, b, checkpointed) }()
		said := 0
		for ended := false; !ended; {
			have := chunksOf(g)
			if err := g.Checkpoint(); err != nil {
				return err
			}
			if len(have) > said {
				said = len(have)
				fmt.Println("synced", seed, strings.Trim(fmt.Sprint(have), "[]"))
			}
			select {
			case err := <-filled:
				if err != nil {
					return err
				}
				ended = true
			case checkpointed <- struct{}{}:
			default:
			}
		}
		if err := finish(g); err != nil {
			return err
		}
		fmt.Println("committed", seed)
		g.Close()
	}
}

// fillShuffled fills g a few chunks in a row, beside a checkpoint, and then waits for the next one.
func fillShuffled(g *content.Ingest, b []byte, checkpointed <-chan struct{}) error {
	for _, i := range rand.Perm(int(g.Chunks())) {
		if g.Has(int64(i), 1) {
			continue
		}
		if err := put(g, b, int64(i)); err != nil {
			return err
		}
		if rand.IntN(4) == 0 {
			<-checkpointed
		}
	}
	return nil
}

// The file system is shut down in the midst of writing, without its log, as by a power cut (FS_IOC_SHUTDOWN), again and again:
// what was synced or committed is there and right, and what the map says after the next boot is true.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	if os.Geteuid() != 0 {
		mustRun(t, "mounting a file system needs root")
	}
	dir := t.TempDir()
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			mustRun(t, fmt.Sprintf("%s: %v: %s", name, err, out))
		}
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<30), os.Mkdir(mnt, 0o700)); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ext4", "-q", image)
	mounted := false
	mount := func() {
		run("mount", "-o", "loop", image, mnt)
		mounted = true
	}
	unmount := func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Fatal(err)
		}
		mounted = false
	}
	t.Cleanup(func() {
		if mounted {
			if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
	checked := 0
	for range 6 {
		mount()
		cmd := child(t, "cut", filepath.Join(mnt, "store"))
		cmd.Stderr = nil // it complains when its disk is gone
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		var said []string
		for range 1 + rand.IntN(25) {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, line)
		}
		shutDown(t, mnt)
		rest, err := io.ReadAll(lines) // the child ends, for its disk is gone
		if err != nil {
			t.Fatal(err)
		}
		if cmd.Wait() == nil {
			t.Error("the child has not seen the power cut")
		}
		said = append(said, slices.Collect(strings.Lines(string(rest)))...)
		unmount()
		mount()
		checked += checkCut(t, filepath.Join(mnt, "store"), said)
		unmount()
	}
	t.Logf("%d synced chunks and blobs", checked)
}

// shutDown ends the file system mounted on mnt without writing out anything, its log neither.
func shutDown(t *testing.T, mnt string) {
	t.Helper()
	f, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const fsIocShutdown, noLogFlush = 0x8004587d, 2
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, noLogFlush); err != nil {
		mustRun(t, "FS_IOC_SHUTDOWN: "+err.Error())
	}
}

// checkCut checks the store dir after a boot against what was said before it, and returns how many things it has checked.
func checkCut(t *testing.T, dir string, said []string) (checked int) {
	t.Helper()
	s := openBoot(t, dir, bootB)
	committed := make(map[uint64]bool)
	must := make(map[uint64][]string)
	for _, line := range said {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasSuffix(line, "\n") {
			continue
		}
		seed, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if words[0] == "committed" {
			committed[seed] = true
		}
		must[seed] = words[2:]
	}
	for seed, chunks := range must {
		b := randomBytes(seed, cutSize)
		f, err := s.Blob(expect(b).Digest)
		if err == nil {
			got, err := io.ReadAll(f)
			f.Close()
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("the blob of seed %d has other bytes, %v", seed, err)
			}
			checked++
			continue
		}
		if committed[seed] {
			t.Errorf("the blob of seed %d was committed: %v", seed, err)
		}
		g := ingest(t, s, expect(b))
		for _, c := range chunks {
			if i, err := strconv.ParseInt(c, 10, 64); err != nil || !g.Has(i, 1) {
				t.Errorf("seed %d: chunk %s was synced and is absent, %v", seed, c, err)
			}
		}
		for _, i := range chunksOf(g) {
			p := make([]byte, min(mib, cutSize-i*mib))
			if _, err := g.ReadAt(p, i*mib); err != nil || !bytes.Equal(p, b[i*mib:][:len(p)]) {
				t.Errorf("seed %d: chunk %d has other bytes, %v", seed, i, err)
			}
			checked++
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return checked
}
