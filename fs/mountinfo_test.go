package fs_test

import (
	"slices"
	"strings"
	"testing"

	"distfs/fs"
)

func TestParseMounts(t *testing.T) {
	const info = `22 27 0:21 / /proc rw,relatime - proc proc rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 27 0:41 / /mnt/a\\040b\\134c ro,nosuid,nodev - fuse.distfs distfs ro,user_id=0
no line of this form
41 27 0:42 / /mnt/bad\\9 rw - tmpfs - rw
x 27 0:43 / /mnt rw - tmpfs - rw
`
	want := []fs.MountLine{
		{22, "0:21", "/proc", "proc"},
		{36, "98:0", "/mnt2", "ext3"},
		{40, "0:41", `/mnt/a b\c`, "fuse.distfs"},
		{41, "0:42", `/mnt/bad\9`, "tmpfs"},
	}
	if got := fs.ParseMounts(strings.ReplaceAll(info, `\\`, `\`)); !slices.Equal(got, want) {
		t.Errorf("parseMounts = %v, want %v", got, want)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n")
	f.Add(`40 27 0:41 / /mnt/a\040b\\ ro - fuse.distfs distfs ro`)
	f.Fuzz(func(t *testing.T, info string) {
		if got := len(fs.ParseMounts(info)); got > strings.Count(info, "\n")+1 {
			t.Errorf("%d mounts in %q", got, info)
		}
	})
}
