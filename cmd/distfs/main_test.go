package main_test

import (
	"os"
	"testing"

	distfs "distfs/cmd/distfs"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"distfs":            func() { os.Exit(distfs.Call(os.Args)) },
		"mount.distfs":      func() { os.Exit(distfs.Call(os.Args)) },
		"mount.fuse.distfs": func() { os.Exit(distfs.Call(os.Args)) },
	})
}
