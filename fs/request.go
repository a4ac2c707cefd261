package fs

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var (
	// errInterrupted is why a request's context ended whose caller is dying.
	errInterrupted = errors.New("interrupted by a signal")
	// errTooLong is why one ended that the kernel would not have waited for.
	errTooLong = &tooLongError{}
)

type tooLongError struct{}

func (*tooLongError) Error() string { return "longer than the kernel lets a request take" }

func (*tooLongError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// begin returns the context of a request. It ends when the caller is about to
// die, when the connection does, or at the kernel's own limit; end ends it.
func (s *server) begin(cancel <-chan struct{}, header *fuse.InHeader) (ctx context.Context, end func()) {
	ctx, stop := context.WithCancelCause(s.base(header.Unique))
	pid := header.Pid
	watched := ctx // the variable is set anew below
	s.tasks.Go(func() { s.watch(watched, cancel, pid, stop) })
	if s.conn.limit == 0 {
		return ctx, func() { stop(nil) }
	}
	ctx, free := context.WithTimeoutCause(ctx, s.conn.limit, errTooLong)
	return ctx, func() { free(); stop(nil) }
}

// signalPoll is how often a caller that was interrupted once is looked at: the
// kernel tells of the first signal only, and that may be a harmless one.
const signalPoll = 20 * time.Millisecond

func (s *server) watch(ctx context.Context, cancel <-chan struct{}, pid uint32, stop context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
		return
	case <-cancel:
	}
	tick := time.NewTicker(signalPoll)
	defer tick.Stop()
	for !s.conn.dead() && !dying(pid) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	stop(errInterrupted)
}

// The signals by which somebody asks a program to end, whether it catches them
// or not, and those that don't end one that does not catch them.
const (
	asksToEnd = 1<<(unix.SIGINT-1) | 1<<(unix.SIGQUIT-1) | 1<<(unix.SIGTERM-1)
	harmless  = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGCONT-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1) |
		1<<(unix.SIGSTOP-1) | 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)
)

// dying says whether a signal is pending that is to end the thread. Others,
// SIGALRM with a handler or Go's SIGURG, must not: programs take EINTR from
// open or stat for a failure. One that can't be seen, because it is gone or in
// a pid namespace beside this one, is taken to be dying.
func dying(tid uint32) bool {
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	if err != nil {
		return true
	}
	var pending, blocked, ignored, caught uint64
	for line := range strings.Lines(string(b)) {
		name, mask, _ := strings.Cut(line, ":")
		set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		if err != nil {
			continue
		}
		switch name {
		case "SigPnd", "ShdPnd":
			pending |= set
		case "SigBlk":
			blocked = set
		case "SigIgn":
			ignored = set
		case "SigCgt":
			caught = set
		}
	}
	const kill = uint64(1) << (syscall.SIGKILL - 1)
	live := pending &^ blocked &^ ignored
	return pending&kill != 0 || live&asksToEnd != 0 || live&^caught&^harmless != 0
}
