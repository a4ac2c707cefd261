package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
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
const patience = time.Minute

// mounted DIR waits until what is mounted at DIR serves, as far as root may ask.
// However the story ends, nothing stays mounted there.
func mounted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mounted DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Defer(func() { detach(ts, dir) })
	ts.Check(awaitMounts(dir, true))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrPermission) {
		ts.Check(err)
	}
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

// smalldisk DIR SIZE puts a file system of its own, of that many bytes, at DIR:
// for who is root.
func smalldisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: smalldisk DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+args[1]))
	ts.Defer(func() { detach(ts, dir) })
}

// nameLayer puts a manifest into repo that names a layer which repo has not got.
func nameLayer(r *testregistry.Registry, layer, repo string) {
	config := r.AddBlob(repo, []byte("{}"))
	r.AddManifest(repo, "1", "application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
		`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},`+
			`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":77}]}`, config, layer))
}

// addBlobs puts 20 blobs into repo and returns their digests, one a line.
func addBlobs(r *testregistry.Registry, repo string, size int) []byte {
	var list []byte
	for i := range 20 {
		dgst := r.AddSynthetic(repo, testregistry.Synthetic{Seed: uint64(500 + i), Size: int64(size)})
		list = fmt.Appendln(list, dgst)
	}
	return list
}

type registryKey struct{}

// breakRegistry is the command registry: it does to the story's own registry
//
//	stop, start               leave its port, and come back to it
//	flip REF OFFSET           send one bit of that blob wrong
//	refuse REF STATUS         answer so whatever is asked of it
//	stall REF OFFSET          send so much of it and no more, until healed
//	heal                      do all that no longer
//	names DIGEST REPO         serve REPO:1, a manifest whose one layer that is, and not the layer
//	blobs REPO SIZE           serve 20 blobs of that size, whose digests are then in the file blobs
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
		ts.Fatalf("usage: registry stop|start|flip|refuse|stall|heal|names|blobs|sent|asked|forget …")
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
	case "names":
		nameLayer(r, args[1], args[2])
	case "blobs":
		size, err := strconv.Atoi(args[2])
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("blobs"), addBlobs(r, args[1], size), 0o600))
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
