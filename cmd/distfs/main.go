// Command distfs mounts image registries as one read-only file system, and
// works on the store that lies beneath it.
//
// This package joins the others: it reads flags, the environment and the
// configuration, and hands a store to a fetcher, and a fetcher to a mount or to
// what moves images. A file is a command, or what several share. Data goes to
// standard output and everything else to standard error. The exit code is 0, 1
// for what failed, 2 for what was refused as it stands: flags, arguments, the
// configuration; and 130 for what a signal interrupted.
package main

import (
	"context"
	"os"
)

func main() {
	p := &program{stdout: os.Stdout, stderr: os.Stderr, etc: "/etc/distfs"}
	os.Exit(p.call(context.Background(), os.Args))
}
