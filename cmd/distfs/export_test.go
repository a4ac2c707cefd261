package main

import (
	"context"
	"net"
	"os"
	"strings"

	"distfs/locator"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Run is the command as scripts run it: the configuration for all users is in
// $TEST_ETC, and of connections those to a HOST that $TEST_DIAL names, as
// HOST=ADDR, go to ADDR.
func Run(args []string) int {
	p := &program{stdout: os.Stdout, stderr: os.Stderr, etc: os.Getenv("TEST_ETC")}
	if led := strings.Fields(os.Getenv("TEST_DIAL")); len(led) > 0 {
		p.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			for _, l := range led {
				if from, to, _ := strings.Cut(l, "="); from == host {
					addr = to
				}
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
	return p.run(context.Background(), args)
}

// Settings returns the flags of the command that args name as they are when it
// runs, and the hosts.
func Settings(etc string, args []string) (map[string]string, locator.Hosts, error) {
	p := &program{stdout: os.Stdout, stderr: os.Stderr, etc: etc}
	root := p.root()
	flags := make(map[string]string)
	for _, c := range root.Commands() {
		c.RunE = func(cmd *cobra.Command, _ []string) error {
			cmd.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = f.Value.String() })
			return nil
		}
	}
	root.SetArgs(args)
	err := root.Execute()
	return flags, p.hosts, err
}

// ParseTarget returns what the arguments of fetch-object and resolve are read as.
func ParseTarget(args ...string) (ref locator.Reference, mediaType string, size int64, err error) {
	t, err := parseTarget(nil, args)
	return t.ref, t.mediaType, t.size, err
}

// What the tests of values need.
var (
	ParseSize  = parseSize
	FormatSize = formatSize
	HumanSize  = humanSize
	HumanAge   = humanAge
	Send       = send
)
