package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// atOnce is the most that one write takes: as much as is verified before any
// of it is written, so that small objects are never mixed up.
const atOnce = verifiedFirst

// sentAtOnce is how much the kernel sends between two looks whether ctx ended.
const sentAtOnce = 32 << 20

// send writes n bytes of src from off on to dst, until ctx ends. To a pipe, a socket or a
// device the kernel sends them, by pages of its cache.
//
// A file is written to instead, for it may be shared: of ten processes that
// xargs runs with one standard output each write moves the one position for
// all, but sendfile and copy_file_range read the position, copy, and then set
// it, and write over each other's data.
func send(ctx context.Context, dst, src *os.File, off, n int64) error {
	info, err := dst.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		if off, n, err = sendFile(ctx, dst, src, off, n); n == 0 || errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		// What is wrong, if it is not sendfile itself, a plain write tells.
	}
	return write(ctx, dst, src, off, n)
}

// sendFile sends until it is done or sendfile has an error, and returns what
// remains.
func sendFile(ctx context.Context, dst, src *os.File, off, n int64) (int64, int64, error) {
	raw, err := dst.SyscallConn()
	if err != nil {
		return off, n, err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n > 0 && failed == nil && ctx.Err() == nil {
			m, err := unix.Sendfile(int(fd), int(src.Fd()), &off, int(min(n, sentAtOnce)))
			switch {
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err != nil:
				failed = err
			case m == 0:
				failed = io.ErrUnexpectedEOF
			default:
				n -= int64(m)
			}
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return off, n, err
}

// write reads and writes what send could not send. Up to atOnce bytes are one
// write.
func write(ctx context.Context, dst io.Writer, src io.ReaderAt, off, n int64) error {
	buf := make([]byte, min(n, atOnce))
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(n, int64(len(buf)))]
		m, err := src.ReadAt(b, off)
		switch {
		case m == len(b):
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		default:
			return err
		}
		if _, err := dst.Write(b); err != nil {
			return err
		}
		off += int64(m)
		n -= int64(m)
	}
	return nil
}
