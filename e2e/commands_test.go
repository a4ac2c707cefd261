package e2e_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"distfs/internal/testregistry"
)

// patience is how long a story waits for what must come.
const patience = 30 * time.Second

// mounted DIR waits until something is mounted at DIR. However the story ends,
// nothing stays mounted there.
func mounted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mounted DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Defer(func() { detach(ts, dir) })
	ts.Check(awaitMounts(dir, true))
}

// unmounted DIR waits until nothing is mounted at DIR.
func unmounted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unmounted DIR")
	}
	ts.Check(awaitMounts(ts.MkAbs(args[0]), false))
}

// awaitMounts waits for the kernel to say that dir is mounted, or is not.
func awaitMounts(dir string, want bool) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	deadline := time.Now().Add(patience)
	for {
		is, err := isMounted(f, dir)
		if err != nil || is == want {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New(dir + ": waited in vain for it to be mounted or unmounted")
		}
		// The table's descriptor polls as changed, but not for each mount of FUSE (seen on Linux 6.18).
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(min(left, 50*time.Millisecond).Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isMounted reads the table of mounts without touching dir, which may be dead.
func isMounted(mountinfo *os.File, dir string) (bool, error) {
	if _, err := mountinfo.Seek(0, 0); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(mountinfo)
	is := false
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 4 && f[4] == dir {
			is = true
		}
	}
	return is, lines.Err()
}

// detach takes dir out of the tree if it is still mounted, and ends commands
// that don't end by that.
func detach(ts *testscript.TestScript, dir string) {
	if os.Getuid() == 0 {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
	} else {
		_ = exec.Command("fusermount3", "-u", "-z", dir).Run()
	}
	for _, cmd := range ts.BackgroundCmds() {
		time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	}
}

// fails CODE COMMAND ARG… runs what must fail with that exit code, with one line
// on stderr and nothing on stdout.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE COMMAND ARG…")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		ts.Fatalf("%s ended with %v, want exit status %d", args[1], err, code)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("it wrote %q to stdout, want nothing", out)
	}
	if line := ts.ReadFile("stderr"); strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		ts.Fatalf("it wrote %q to stderr, want one line", line)
	}
}

type registryKey struct{}

// breakRegistry is the command registry: it does to the story's own registry
//
//	stop, start               leave its port, and come back to it
//	flip REF OFFSET           send one bit of that blob wrong
//	refuse REF STATUS         answer so whatever is asked of it
//	stall REF OFFSET          send so much of it and no more, until healed
//	heal                      do all that no longer
//
// or looks what it was asked:
//
//	sent DIGEST N             at most so many bytes of a blob were sent
//	asked N                   so many requests came since the last forget
//	forget                    begin to count anew
func breakRegistry(ts *testscript.TestScript, neg bool, args []string) {
	r, ok := ts.Value(registryKey{}).(*testregistry.Registry)
	args = append(args, "", "", "")
	if neg || !ok {
		ts.Fatalf("usage: registry stop|start|flip|refuse|stall|heal|sent|asked|forget …")
	}
	n, _ := strconv.ParseInt(args[2], 10, 64)
	switch args[0] {
	case "stop":
		r.Stop()
	case "start":
		r.Restart()
	case "flip":
		r.SetFault(testregistry.Fault{Ref: args[1], Act: testregistry.FlipBit, At: n})
	case "refuse":
		r.SetFault(testregistry.Fault{Ref: args[1], Act: testregistry.Status, Code: int(n)})
	case "stall":
		r.SetFault(testregistry.Fault{Ref: args[1], Act: testregistry.StallBody, At: n})
	case "heal":
		r.ClearFaults()
	case "sent":
		var got int64
		for _, q := range r.Requests() {
			if q.Ref == args[1] {
				got += q.Sent
			}
		}
		if got > n {
			ts.Fatalf("%d bytes of %s were sent, want at most %d", got, args[1], n)
		}
	case "asked":
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		if got := r.Requests(); len(got) != want {
			ts.Fatalf("%d requests came, want %d: %+v", len(got), want, got)
		}
	case "forget":
		r.Forget()
	default:
		ts.Fatalf("registry %s: there is no such thing to do", args[0])
	}
}
