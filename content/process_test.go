package content_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/content"
)

// child starts the test binary as another process.
func child(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DISTFS_TEST_CHILD="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

// startChild starts a child, and returns when it has said its first line: it is where it is to be.
func startChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// fillChild fills the ingest of randomBytes(7, size) in the store dir and says on stdout which chunks it fetched: "claim i"
// before it writes chunk i and "done i" behind.
func fillChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	b := randomBytes(7, size)
	g, err := s.Ingest(expect(b))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	errs := make(chan error, 4)
	for range 4 {
		wg.Go(func() { errs <- fillRandomly(g, b, &mu) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return g.Close()
}

func fillRandomly(g *content.Ingest, b []byte, mu *sync.Mutex) error {
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format, args...)
	}
	for !g.Has(0, g.Chunks()) {
		from := rand.Int64N(g.Chunks())
		at, count := g.Missing(from, g.Chunks())
		if count == 0 {
			continue
		}
		n, err := g.Claim(at, min(count, 1+rand.Int64N(4)))
		if err != nil {
			return err
		}
		for i := at; i < at+n; i++ {
			say("claim %d\n", i)
			p := b[i*mib : min((i+1)*mib, int64(len(b)))]
			half := len(p) / 2
			if _, err := g.WriteAt(p[half:], i*mib+int64(half)); err != nil {
				return err
			}
			if _, err := g.WriteAt(p[:half], i*mib); err != nil {
				return err
			}
			if err := g.Done(i, 1); err != nil {
				return err
			}
			say("done %d\n", i)
		}
		g.Release(at, n)
	}
	return nil
}

// Four processes fill an ingest, one after another is killed: no chunk that was done is fetched again,
// and none is fetched by two that live.
func TestProcessesFillTogether(t *testing.T) {
	s := newStore(t)
	b := randomBytes(7, 200*mib+12345)
	type event struct {
		child, chunk int
		done         bool
	}
	var (
		mu     sync.Mutex
		events []event
		wg     sync.WaitGroup
	)
	start := func(n, killAfter int) {
		cmd := child(t, "fill", s.Dir(), strconv.Itoa(len(b)))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			lines := bufio.NewScanner(out)
			dones := 0
			for lines.Scan() {
				word, num, _ := strings.Cut(lines.Text(), " ")
				i, err := strconv.Atoi(num)
				if err != nil {
					continue // cut by the kill
				}
				mu.Lock()
				events = append(events, event{n, i, word == "done"})
				mu.Unlock()
				if word == "done" {
					dones++
				}
				if word == "done" && dones == killAfter {
					if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Error(err)
					}
				}
			}
			if err := cmd.Wait(); err != nil && killAfter == 0 {
				t.Errorf("child %d: %v", n, err)
			}
		})
	}
	const killed = 3
	for n := range killed {
		start(n, 10+5*n)
	}
	start(killed, 0)
	wg.Wait()

	// What one reader of four pipes sees of their order is not exact; how often each chunk was done is.
	claims, dones := make(map[int]int), make(map[int]int)
	lost := 0
	for _, e := range events {
		if e.done {
			dones[e.chunk]++
		} else {
			claims[e.chunk]++
		}
	}
	chunks := int((int64(len(b)) + mib - 1) / mib)
	for i := range chunks {
		if dones[i] > 1 {
			t.Errorf("chunk %d was done %d times", i, dones[i])
		}
		lost += claims[i] - 1
	}
	// A killed child can lose at most the chunk that each of its goroutines was writing.
	if lost > killed*4 {
		t.Errorf("%d chunks were fetched again, want at most %d", lost, killed*4)
	}
	g := ingest(t, s, expect(b))
	if !g.Has(0, g.Chunks()) || !g.Resumed() {
		t.Errorf("the ingest misses chunks")
	}
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}

// commitChild brings 40 blobs into the store, together with whoever else does so.
func commitChild(args []string) error {
	return fetchAll(args[0], os.Stdout)
}

// fetchAll brings 40 blobs into the store dir and writes a line for each.
func fetchAll(dir string, log io.Writer) error {
	s, err := content.Open(dir)
	if err != nil {
		return err
	}
	for seed := range uint64(40) {
		b := randomBytes(seed, int(seed)*100_000)
		if err := fetch(s, b); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		fmt.Fprintln(log, seed)
	}
	return nil
}

// fetch brings b into s, together with whoever else does so.
func fetch(s *content.Store, b []byte) error {
	e := expect(b)
	for {
		g, err := s.Ingest(e)
		if errors.Is(err, iofs.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
		err = fetchOnce(g, b)
		if err := g.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		if errors.Is(err, iofs.ErrExist) {
			return nil
		}
		if !errors.Is(err, content.ErrDiscarded) {
			return err
		}
	}
}

func fetchOnce(g *content.Ingest, b []byte) error {
	for {
		at, count := g.Missing(0, g.Chunks())
		if count > 0 {
			n, err := g.Claim(at, 1)
			if err != nil {
				return err
			}
			for i := at; i < at+n; i++ {
				if _, err := g.WriteAt(b[i*mib:min((i+1)*mib, int64(len(b)))], i*mib); err != nil {
					return err
				}
				if err := g.Done(i, 1); err != nil {
					return err
				}
				g.Release(i, 1)
			}
			continue
		}
		own, err := g.TryOwn()
		if err != nil {
			return err
		}
		if !own {
			continue
		}
		if err := g.Verify(); err != nil {
			return err
		}
		_, err = g.Commit()
		return err
	}
}

func TestProcessesCommitTogether(t *testing.T) {
	s := newStore(t)
	var cmds []*exec.Cmd
	for range 3 {
		cmd := child(t, "commit", s.Dir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	for seed := range uint64(40) {
		wantBlob(t, s, randomBytes(seed, int(seed)*100_000))
	}
}

// Processes are killed wherever they are; whoever comes next needs no hand.
func TestKilledAnywhere(t *testing.T) {
	s := newStore(t)
	for range 30 {
		cmd := child(t, "commit", s.Dir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range rand.IntN(35) {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Error(err)
			}
		}
		for range rand.IntN(200) { // a while, by what the store does
			if _, err := s.Ingests(); err != nil {
				t.Error(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		infos, err := s.Blobs()
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range infos {
			if rand.IntN(2) == 0 {
				if err := s.Delete(info.Digest); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := fetchAll(s.Dir(), io.Discard); err != nil {
		t.Fatal(err)
	}
	open(t, s.Dir())
	entries, err := os.ReadDir(s.Dir() + "/ingest")
	if err != nil {
		t.Fatal(err)
	}
	// What was being made when its maker died is kept for an hour, for it could be alive.
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".new-") })
	if len(entries) > 0 {
		t.Errorf("ingest holds %v", entries)
	}
}

// holdChild opens the ingest by the key "held" and holds it until its stdin ends.
func holdChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	if _, err := s.Ingest(content.Expect{Ref: "held", Total: -1}); err != nil {
		return err
	}
	fmt.Println("held")
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	return err
}

func TestOneWriterByKey(t *testing.T) {
	s := newStore(t)
	cmd := child(t, "hold", s.Dir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	startChild(t, cmd)
	held := content.Expect{Ref: "held", Total: -1}
	var locked *content.LockedError
	for _, err := range []error{ingestError(s, held), s.Abort(held)} {
		if !errors.As(err, &locked) || !errors.Is(err, syscall.EBUSY) || locked.PID != cmd.Process.Pid || locked.Ref != "held" || !strings.Contains(locked.Command, "content.test") {
			t.Errorf("a second writer: %v, want a LockedError with pid %d", err, cmd.Process.Pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	g := ingest(t, s, held)
	if err := ingestError(s, held); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("a second writer: %v, want a LockedError with pid %d", err, os.Getpid())
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(held); err != nil {
		t.Errorf("Abort = %v", err)
	}
	wantEmpty(t, s.Dir()+"/ingest")
}

func ingestError(s *content.Store, e content.Expect) error {
	g, err := s.Ingest(e)
	if err == nil {
		g.Close()
	}
	return err
}
