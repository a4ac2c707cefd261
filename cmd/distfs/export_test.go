package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Call is the command as scripts run it, by its name in args[0]: the configuration for all users is in
// $TEST_ETC, and of connections those to a HOST that $TEST_DIAL names, as
// HOST=ADDR, go to ADDR.
func Call(args []string) int {
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
	return p.call(context.Background(), args)
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
	Fit        = fit
	Notify     = notify
)

// ParseListenAddr returns what --metrics-addr makes of s.
func ParseListenAddr(s string) (string, error) {
	var a listenAddr
	err := a.Set(s)
	return string(a), err
}

// MaxClients is how many a process's socket serves at a time.
const MaxClients = maxClients

// Attend has this process be seen on store, as one that fetches nothing.
func Attend(store *content.Store) (end func()) {
	p := &program{log: slog.New(slog.DiscardHandler)}
	f := fetch.New(store, nil, nil)
	c := p.attend(store, f.Active, "test")
	return func() { c.close(); f.Close() }
}

// HelperCall returns what mount.distfs makes of its arguments.
func HelperCall(args []string) (dir, options string, remount bool, err error) {
	h, err := parseHelperCall(args)
	if err != nil {
		return "", "", false, err
	}
	return h.dir, h.options, h.remount, nil
}

// Pace is a pace, at times that the test tells.
type Pace struct{ p pace }

// Add says that n bytes came.
func (p *Pace) Add(now time.Time, n int64) { p.p.add(now, n) }

// Rate returns bytes a second.
func (p *Pace) Rate(now time.Time) int64 { return p.p.rate(now) }

// PlainJSON is plainJSON.
func PlainJSON(b []byte) []byte { return plainJSON(b) }

// Flags returns the names of each command's flags, but for those that cobra adds.
func Flags() map[string][]string {
	p := &program{stdout: os.Stdout, stderr: os.Stderr}
	flags := make(map[string][]string)
	for _, c := range append(p.root().Commands(), p.root()) {
		note := func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && f.Name != "version" {
				flags[c.Name()] = append(flags[c.Name()], f.Name)
			}
		}
		c.LocalFlags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
	}
	return flags
}

// PlainLine is what a plain line says of so many objects, of which none is here.
func PlainLine(name string, objects int) string {
	s := summary{name: name, objects: objects}
	return s.line()
}

// JSONLine is the line that --progress json ends with for what has that name.
func JSONLine(name string) string {
	var b bytes.Buffer
	(&jsonLines{to: &b}).end(summary{name: name}, nil)
	return b.String()
}
