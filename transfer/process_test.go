package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"
)

// unpackChild unpacks the layer on standard input into args[0], and prints its
// losses and the most memory that it had, in KiB.
func unpackChild(args []string) error {
	u, err := transfer.NewUnpacker(args[0], nil)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := u.Layer(context.Background(), os.Stdin); err != nil {
		return err
	}
	peak, err := peakKiB()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report{u.Losses(), peak})
}

type report struct {
	Losses transfer.Losses
	Peak   int64
}

// peakKiB is the most memory that this process had. What getrusage(2) tells is
// no less than its parent had when it began.
func peakKiB() (n int64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	_, err = fmt.Sscanf(after, "%d", &n)
	return n, err
}

// inChild has a process unpack layer into dir, as nobody if it is to.
func inChild(t *testing.T, dir string, layer io.Reader, nobody bool) report {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if nobody { // the test's binary lies where only root may go
		b, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		exe = filepath.Join(filepath.Dir(dir), "unpack.test")
		if err := os.WriteFile(exe, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), "DISTFS_TEST_CHILD=unpack")
	cmd.Stdin = layer
	if nobody {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNobody unpacks as a user: into directories that shut out their owner, and
// without what only root may do. A second run gives the same.
func TestNobody(t *testing.T) {
	needRoot(t)
	base, err := os.MkdirTemp("", "distfs-nobody") //nolint:usetesting // nobody may not go where the test's own lies
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chown(base, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	shut, half, file := testlayer.Dir("shut"), testlayer.Dir("shut/half"), testlayer.Reg("shut/half/f", "1")
	shut.Mode, half.Mode, file.Mode = 0, 0o500, 0o4400
	file.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "a", "SCHILY.xattr.trusted.b": "b", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	own := testlayer.Reg("own", "")
	own.Uid, own.Gid = 65534, 65534
	lower := testlayer.Tar(t, shut, half, file, testlayer.Reg("shut/half/gone", ""), testlayer.Reg("x", ""), testlayer.Link("shut/half/h", "shut/half/f"), own,
		testlayer.File{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}},
		testlayer.File{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o620}})
	dir := filepath.Join(base, "tree")
	upper := testlayer.Tar(t, testlayer.Reg("shut/half/.wh.gone", ""), testlayer.Reg("shut/new", "2"))
	want := map[string]string{
		".": "040755 65534:65534 0.000000000", "shut": "040000 65534:65534 1700000000.123456789", "shut/half": "040500 65534:65534 1700000000.123456789",
		"shut/half/f": `104400 65534:65534 1700000000.123456789 1 bytes 6b86b273 is shut/half/f user.a="a"`,
		"shut/half/h": `104400 65534:65534 1700000000.123456789 1 bytes 6b86b273 is shut/half/f user.a="a"`,
		"shut/new":    "100644 65534:65534 1700000000.123456789 1 bytes d4735e3a",
		"own":         "100644 65534:65534 1700000000.123456789 0 bytes e3b0c442", "x": "100644 65534:65534 1700000000.123456789 0 bytes e3b0c442",
		"fifo": "010620 65534:65534 1700000000.123456789",
	}
	for range 2 {
		got := inChild(t, dir, bytes.NewReader(lower), true).Losses
		if got.Owners != 6 || got.Devices != 1 || got.Xattrs != 2 || !strings.Contains(got.Xattr, `of "shut/half/f": operation not permitted`) {
			t.Errorf("losses %+v, want 6 owners, 1 device, 2 extended attributes", got)
		}
		inChild(t, dir, bytes.NewReader(upper), true)
		tree := testlayer.Tree(t, dir)
		for name, line := range want {
			if tree[name] != line {
				t.Errorf("%s is %s, want %s", name, tree[name], line)
			}
		}
		if len(tree) != len(want) {
			t.Errorf("%d paths, want %d: %v", len(tree), len(want), tree)
		}
	}
	inChild(t, dir, bytes.NewReader(testlayer.Tar(t, testlayer.Reg(".wh.shut", ""))), true)
	if tree := testlayer.Tree(t, dir); len(tree) != 4 {
		t.Errorf("%v is left, want ., own, x and fifo", tree)
	}
}

// TestNobodysDirectory unpacks as a user into a directory that he may write to and
// does not own: its mode and times stay.
func TestNobodysDirectory(t *testing.T) {
	needRoot(t)
	base, err := os.MkdirTemp("", "distfs-nobody") //nolint:usetesting // nobody may not go where the test's own lies
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "tree")
	mustUnpack(t, dir)
	if err := errorsOf(os.Chmod(base, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	root := testlayer.Dir("./")
	root.Mode = 0o700
	got := inChild(t, dir, bytes.NewReader(testlayer.Tar(t, root, testlayer.Reg("f", "1"))), true)
	if got.Losses.Dirs != 1 {
		t.Errorf("losses %+v, want 1 directory", got.Losses)
	}
	tree := testlayer.Tree(t, dir)
	if !strings.HasPrefix(tree["."], "040777 0:0 ") || !strings.HasPrefix(tree["f"], "100644 65534:65534 ") {
		t.Errorf("the tree is %v, want a directory as it was and f", tree)
	}
}

// TestMemory unpacks a million entries, a tenth of them new files in a
// directory of a lower layer, whose marks are held.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it makes 100,000 files")
	}
	dir := filepath.Join(t.TempDir(), "tree")
	mustUnpack(t, dir, testlayer.Tar(t, testlayer.Dir("d")))
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- errorsOf(writeMillion(w), w.Close()) }()
	got := inChild(t, dir, r, false)
	r.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got.Peak > 64<<10 {
		t.Errorf("it took %d KiB of memory, want 64 MiB at most", got.Peak)
	}
	t.Logf("%d KiB", got.Peak)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func writeMillion(w io.Writer) error {
	tw := tar.NewWriter(w)
	for i := range 1_000_000 {
		name := fmt.Sprintf("d/.wh.%d", i)
		if i%10 == 0 {
			name = fmt.Sprintf("d/%d", i)
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
	}
	return tw.Close()
}
