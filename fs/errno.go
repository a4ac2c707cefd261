package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"os"
	"syscall"

	"distfs/image"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// errnos is what an error is to a program, the first that fits. EAGAIN is not
// among them and never will be: Python takes it for the end of the file.
var errnos = []struct {
	is    error
	errno syscall.Errno
	quiet bool // the number says it all
}{
	{errStale, syscall.ESTALE, true},
	{errInterrupted, syscall.EINTR, true},
	{syscall.ENODATA, syscall.ENODATA, true},
	{iofs.ErrNotExist, syscall.ENOENT, true},
	{iofs.ErrPermission, syscall.EACCES, false},
	{syscall.ENETUNREACH, syscall.ENETUNREACH, true},
	{syscall.EHOSTUNREACH, syscall.EHOSTUNREACH, false},
	{syscall.EBUSY, syscall.EBUSY, false},
	{syscall.EIO, syscall.EIO, false},
	{os.ErrDeadlineExceeded, syscall.ETIMEDOUT, false},
	{context.DeadlineExceeded, syscall.ETIMEDOUT, false},
	{syscall.ENOSPC, syscall.ENOSPC, false},
	{syscall.EROFS, syscall.EROFS, true},
}

// errno is the one place where an error becomes a number. What the number
// does not say is one line in the log. ctx is the request's: if that was
// interrupted, so was whatever failed in it.
func (s *server) errno(ctx context.Context, op, path string, err error) fuse.Status {
	if cause := context.Cause(ctx); cause != nil && isEnd(err) {
		err = cause
	}
	number, quiet := classify(err)
	if !quiet {
		s.log.LogAttrs(ctx, slog.LevelWarn, op+" failed", slog.String("path", path),
			slog.String("errno", unix.ErrnoName(number)), slog.String("err", bounded(err)))
	}
	return fuse.Status(number)
}

// maxMessage bounds an error's text in bytes: parts of it may be a server's.
const maxMessage = 2 << 10

func bounded(err error) string {
	s := err.Error()
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return s
}

// isEnd says whether err is that a context ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// A saidError was logged before: every later read of a bad object ends so.
type saidError struct{ error }

func (e *saidError) Unwrap() error { return e.error }

func classify(err error) (number syscall.Errno, quiet bool) {
	_, said := errors.AsType[*saidError](err)
	if _, none := errors.AsType[*image.PlatformError](err); none {
		return syscall.ENOENT, said
	}
	for _, e := range errnos {
		if errors.Is(err, e.is) {
			return e.errno, e.quiet || said
		}
	}
	return syscall.EIO, said
}
