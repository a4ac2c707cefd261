package transfer_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// children are what the test binary does instead of testing, started again by a test that needs another process.
var children = map[string]func(args []string) error{"unpack": unpackChild}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("DISTFS_TEST_CHILD")]; child != nil {
		if err := child(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
