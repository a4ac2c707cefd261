package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// A program is one run of distfs: where it writes to, and what it was told.
type program struct {
	stdout *os.File
	stderr io.Writer
	etc    string // the folder of the configuration for all users

	// dial opens connections to registries; nil is a net.Dialer.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	flags globalFlags
	hosts locator.Hosts // as configured
	log   *slog.Logger
	began bool // flags, arguments and configuration are good and the command runs
}

// globalFlags are those of every command.
type globalFlags struct {
	store     string
	config    string
	timeout   duration
	logLevel  choice
	logFormat choice
}

// grace is how long an interrupted command may take to end.
const grace = 5 * time.Second

// run does what args say and returns the exit code. An error is one line on
// standard error.
func (p *program) run(ctx context.Context, args []string) int {
	// A reader that leaves is EPIPE to who writes, not the end of the process.
	sigpipe := make(chan os.Signal, 1)
	signal.Notify(sigpipe, syscall.SIGPIPE)
	defer signal.Stop(sigpipe)

	root := p.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage) || !p.began:
		p.complain(err)
		return 2
	case errors.Is(err, errSaid) || errors.Is(err, syscall.EPIPE):
		return 1
	}
	p.complain(err)
	return 1
}

// complain writes err as one line.
func (p *program) complain(err error) { p.say(err.Error()) }

// say writes a line to standard error.
func (p *program) say(line string) { fmt.Fprintf(p.stderr, "distfs: %s\n", oneLine(line)) }

// maxMessage bounds a line in bytes: parts of it may be a server's.
const maxMessage = 2 << 10

// oneLine escapes control characters: a name or a message from elsewhere cannot
// begin another line or move the cursor.
func oneLine(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n': // of errors that were joined
			b.WriteString("; ")
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// errSaid is the error of a command that has told its errors already.
var errSaid = errors.New("said already")

// A usageError refuses what was asked for as it stands: the exit code is 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// interruptible makes f the body of a command that ends on SIGINT and SIGTERM
// by its context; a second signal, or a write that nobody takes for the time
// of grace, ends the process.
func (p *program) interruptible(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		p.began = true
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		done := context.AfterFunc(ctx, func() {
			stop()
			time.AfterFunc(grace, func() { os.Exit(1) })
		})
		defer done()
		err := f(ctx, args)
		if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		return err
	}
}

// openStore opens the store, making it where it is absent.
func (p *program) openStore() (*content.Store, error) { return content.Open(p.flags.store) }

// existing opens the store for a command that makes none. Its error is
// iofs.ErrNotExist if there is none.
func (p *program) existing() (*content.Store, error) {
	if _, err := os.Stat(p.flags.store); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return p.openStore()
}

// absent says of a blob that is not in the store what is wrong, and of another
// error whose it is.
func (p *program) absent(dgst digest.Digest, err error) error {
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("%s: the store %s does not hold it", dgst, p.flags.store)
	}
	return fmt.Errorf("%s: %w", dgst, err)
}

// fetcher returns a Fetcher over store with what opts say and the flags of
// every command. Without a log in opts it logs no errors: who uses it returns
// them.
func (p *program) fetcher(store *content.Store, opts fetch.Options) *fetch.Fetcher {
	opts.Timeout = p.flags.timeout.d
	if opts.Log == nil {
		opts.Log = slog.New(warnings{p.log.Handler()})
	}
	opts.Dial = p.dial
	return fetch.New(store, p.hosts, &opts)
}
