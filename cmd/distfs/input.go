package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// An input is a file that is read until a context is done, even where nothing
// comes: a read of standard input, a pipe, cannot be interrupted otherwise.
type input struct {
	f     *os.File
	cause func() error // the context's error
	wake  [2]int       // a pipe, whose second end is closed when the context is done
	stop  func() bool
	shut  chan struct{} // closed when that end is
}

// newInput returns f as an input. Closing it leaves f open.
func newInput(ctx context.Context, f *os.File) (*input, error) {
	in := &input{f: f, cause: ctx.Err, shut: make(chan struct{})}
	if err := unix.Pipe2(in.wake[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	in.stop = context.AfterFunc(ctx, func() {
		unix.Close(in.wake[1])
		close(in.shut)
	})
	return in, nil
}

func (in *input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(in.f.Fd()), Events: unix.POLLIN}, {Fd: int32(in.wake[0])}}
	for {
		_, err := unix.Poll(fds, -1)
		if ended := in.cause(); ended != nil {
			return 0, ended
		}
		if err == nil {
			return in.f.Read(p)
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
	}
}

// Close ends what waits for the context.
func (in *input) Close() error {
	if in.stop() {
		unix.Close(in.wake[1])
	} else {
		<-in.shut
	}
	return unix.Close(in.wake[0])
}
