package fs_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"distfs/fs"
)

// TestUnmountElsewhere unmounts what is in use where umount(8) does not look.
func TestUnmountElsewhere(t *testing.T) {
	needMounts(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can mount these")
	}
	for name, use := range map[string]func(dir, at string) error{
		"bind": func(dir, at string) error { return unix.Mount(dir, at, "", unix.MS_BIND, "") },
		"overlay": func(dir, at string) error {
			return unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+dir+":"+t.TempDir())
		},
	} {
		args := MountArgs{Dir: t.TempDir(), Store: t.TempDir()}
		server, at := startAgent(t), t.TempDir()
		if _, err := call[MountArgs, string](server, "Mount", args); err != nil {
			t.Fatal(err)
		}
		if err := use(args.Dir, at); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want []string
		wait := 50 * time.Millisecond
		if name == "bind" {
			want, wait = []string{at}, time.Hour
		}
		on, ok := errors.AsType[*fs.ServesOnError](fs.Unmount(args.Dir, wait))
		if !ok || on.PID != server.cmd.Process.Pid || !slices.Equal(on.At, want) {
			t.Errorf("Unmount, %s: %+v, want an error that says that process %d serves on at %q", name, on, server.cmd.Process.Pid, want)
		}
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		server.stop()
	}
}
