package main

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// send writes n bytes of src from off on to dst, at its position. The kernel
// copies them where it can: the same extents on file systems that share them,
// pages of the cache without a copy for a pipe.
func send(dst, src *os.File, off, n int64) error {
	for _, call := range []func(out, in int, off *int64, n int) (int, error){cloneRange, unix.Sendfile} {
		var err error
		if off, n, err = sendBy(call, dst, src, off, n); n == 0 {
			return nil
		}
		if err == io.ErrUnexpectedEOF {
			return err
		}
	}
	// What is wrong with dst, if it is not the calls, a plain write tells.
	m, err := io.Copy(onlyWriter{dst}, io.NewSectionReader(src, off, n))
	if err == nil && m < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func cloneRange(out, in int, off *int64, n int) (int, error) {
	return unix.CopyFileRange(in, off, out, nil, n, 0)
}

// sendBy sends by one call until it is done or the call has an error, and
// returns what remains.
func sendBy(call func(out, in int, off *int64, n int) (int, error), dst, src *os.File, off, n int64) (int64, int64, error) {
	raw, err := dst.SyscallConn()
	if err != nil {
		return off, n, err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n > 0 {
			m, err := call(int(fd), int(src.Fd()), &off, int(min(n, 1<<30)))
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return false
			case err == nil && m == 0:
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				failed = err
				return true
			}
			n -= int64(m)
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return off, n, err
}

// An onlyWriter hides a file's ReadFrom, which would try the calls of send again.
type onlyWriter struct{ io.Writer }
