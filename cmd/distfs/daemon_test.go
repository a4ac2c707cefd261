package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// daemons returns the processes of the script in work that serve a mount in the
// background, or are about to.
func daemons(work string) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		env, err := os.ReadFile(dir + "/environ")
		if err != nil {
			continue
		}
		if all := bytes.Split(env, []byte{0}); slices.ContainsFunc(all, func(v []byte) bool { return string(v) == "WORK="+work }) &&
			slices.ContainsFunc(all, func(v []byte) bool { return bytes.HasPrefix(v, []byte("_DISTFS_READY=")) }) {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// daemon VAR waits until one process is in the background and sets VAR to its number.
func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	work := ts.Getenv("WORK")
	awaited(ts, "a process in the background", func() bool { return len(daemons(work)) == 1 })
	ts.Setenv(args[0], strconv.Itoa(daemons(work)[0]))
}

// gone PID waits until there is no such process, nor another in the background.
func cmdGone(ts *testscript.TestScript, _ bool, args []string) {
	awaited(ts, "gone "+strings.Join(args, " "), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", args[0]))
		return (err != nil || bytes.Contains(stat, []byte(") Z "))) && len(daemons(ts.Getenv("WORK"))) == 0
	})
}

// endDaemons ends what a script that failed left in the background.
func endDaemons(work string) {
	for _, pid := range daemons(work) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// condition knows root: the tests are run by root.
func condition(cond string) (bool, error) {
	if cond != "root" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	return os.Getuid() == 0, nil
}

// helpers installs mount.distfs and mount.fuse.distfs where mount(8) looks for
// them, until the test ends.
func helpers(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	for _, name := range []string{"mount.distfs", "mount.fuse.distfs"} {
		bin, err := exec.LookPath(name)
		ts.Check(err)
		link := filepath.Join("/sbin", name)
		ts.Check(os.Symlink(bin, link))
		ts.Defer(func() { os.Remove(link) })
	}
}
