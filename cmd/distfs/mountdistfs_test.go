package main_test

import (
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"
)

func TestHelperCall(t *testing.T) {
	tests := []struct {
		args         string
		dir, options string
		remount      bool
		wrong        string
	}{
		{args: "none mnt", dir: "mnt"},
		{args: "none mnt -n -o rw,store=/s,offline", dir: "mnt", options: "store=/s,offline"},
		{args: "-sv -o ro -o dev none mnt -t fuse.distfs", dir: "mnt", options: "ro,dev"},
		{args: "none mnt -o remount,ro", dir: "mnt", options: "ro", remount: true},
		{args: "-o ro -- none -mnt", dir: "-mnt", options: "ro"},
		{args: "none mnt -o rw", dir: "mnt"},
		{args: "none", wrong: "DIR is missing"},
		{args: "", wrong: "SRC is missing"},
		{args: "none mnt more", wrong: `"more" is too many`},
		{args: "none mnt -q", wrong: "-q"},
		{args: "none mnt -o", wrong: "-o"},
		{args: "-N 7 none mnt", wrong: "-N"},
	}
	for _, tt := range tests {
		dir, options, remount, err := distfs.HelperCall(strings.Fields(tt.args))
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("HelperCall(%s) = %v, want %s", tt.args, err, tt.wrong)
			}
			continue
		}
		if err != nil || dir != tt.dir || options != tt.options || remount != tt.remount {
			t.Errorf("HelperCall(%s) = %q, %q, %v, %v, want %q, %q, %v", tt.args, dir, options, remount, err, tt.dir, tt.options, tt.remount)
		}
	}
}

func FuzzHelperCall(f *testing.F) {
	f.Add("none\nmnt\n-o\nrw,remount,,x-a=1")
	f.Add("-sfnv\n-o=a\n--\nnone\n-")
	f.Fuzz(func(t *testing.T, args string) {
		dir, options, _, err := distfs.HelperCall(strings.Split(args, "\n"))
		if err != nil {
			return
		}
		for opt := range strings.SplitSeq(options, ",") {
			if opt == "rw" || opt == "remount" {
				t.Errorf("HelperCall(%q) leaves %s in %q", args, opt, options)
			}
		}
		again, same, _, err := distfs.HelperCall([]string{"-o", options, "--", "none", dir})
		if err != nil || again != dir || same != options {
			t.Errorf("HelperCall of what HelperCall(%q) returned = %q, %q, %v, want %q, %q", args, again, same, err, dir, options)
		}
	})
}
