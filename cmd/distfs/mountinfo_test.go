package main_test

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountsBelow lists the mounts below dir, without touching any.
func mountsBelow(dir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var mnts []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			mnts = append(mnts, fields[4])
		}
	}
	return mnts
}

func unmount(dir string) { _ = unix.Unmount(dir, unix.MNT_DETACH) }
