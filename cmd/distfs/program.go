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
	"unicode/utf8"

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

	flags   globalFlags
	hosts   locator.Hosts // as configured
	log     *slog.Logger
	args    []string // of the run
	starter *starter // of a mount in the background
	help    helpText
	began   bool // flags, arguments and configuration are good and the command runs
}

// globalFlags are those of every command.
type globalFlags struct {
	store     string
	config    string
	certsDir  string
	timeout   duration
	logLevel  choice
	logFormat choice
}

// errInterrupted is the error of a command that a signal ended.
var errInterrupted = errors.New("interrupted")

// exitInterrupted is what a shell makes of an end by SIGINT: a script that is
// interrupted then ends with its command.
const exitInterrupted = 130

// grace is how long an interrupted command may take to end.
const grace = 5 * time.Second

// run does what args say and returns the exit code. An error is one line on
// standard error.
func (p *program) run(ctx context.Context, args []string) int {
	// A reader that leaves is EPIPE to who writes, not the end of the process.
	sigpipe := make(chan os.Signal, 1)
	signal.Notify(sigpipe, syscall.SIGPIPE)
	defer signal.Stop(sigpipe)

	p.args = args
	p.help.to = p.stdout
	root := p.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil && p.help.err != nil {
		p.began, err = true, p.help.err
	}
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage) || !p.began:
		p.complain(err)
		return 2
	case errors.Is(err, errInterrupted):
		p.complain(err)
		return exitInterrupted
	case errors.Is(err, errSaid) || errors.Is(err, syscall.EPIPE):
		return 1
	}
	p.complain(err)
	return 1
}

// helpText is where help goes. What writes it does not look whether it could.
type helpText struct {
	to  io.Writer
	err error // of the first Write that failed
}

func (h *helpText) Write(b []byte) (int, error) {
	n, err := h.to.Write(b)
	if h.err == nil {
		h.err = err
	}
	return n, err
}

// complain writes err as one line.
func (p *program) complain(err error) { p.say(err.Error()) }

// say writes a line to standard error.
func (p *program) say(line string) { fmt.Fprintf(p.stderr, "distfs: %s\n", oneLine(line)) }

// sayTaken says what a short form stands for, where it is one.
func (p *program) sayTaken(arg, full string) {
	if arg != full {
		p.say(fmt.Sprintf("%s is %s", arg, full))
	}
}

// maxMessage bounds a line in bytes: parts of it may be a server's.
const maxMessage = 2 << 10

// oneLine escapes what does not print: a name or a message from elsewhere cannot
// begin another line, move the cursor or turn the line around.
func oneLine(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	var b strings.Builder
	for i, r := range s {
		switch _, size := utf8.DecodeRuneInString(s[i:]); {
		case r == '\n': // of errors that were joined
			b.WriteString("; ")
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < 0x100 && !unicode.IsGraphic(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsGraphic(r):
			fmt.Fprintf(&b, `\u%04x`, r)
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
			time.AfterFunc(grace, func() { os.Exit(exitInterrupted) })
		})
		defer done()
		err := f(ctx, args)
		if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return errInterrupted
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

// inStore returns what look finds in the store, and none where there is no store.
func inStore[T any](p *program, none T, look func(*content.Store) (T, error)) (found T, err error) {
	store, err := p.existing()
	if errors.Is(err, iofs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return look(store)
}

// absent says of a blob that is not in the store what is wrong, and of another
// error whose it is.
func (p *program) absent(dgst digest.Digest, err error) error { return p.lacking(string(dgst), err) }

// lacking is absent for what has that name.
func (p *program) lacking(name string, err error) error {
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("%s: the store %s does not hold it", name, p.flags.store)
	}
	return fmt.Errorf("%s: %w", name, err)
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
	opts.CertsDirs = p.certsDirs()
	return fetch.New(store, p.hosts, &opts)
}
