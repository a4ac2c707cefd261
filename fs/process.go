package fs

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A processHandle is a process, whatever its number comes to mean: a pidfd, see
// pidfd_open(2). -1 is none.
type processHandle int

func openProcess(pid int) processHandle {
	if pid <= 0 || pid == os.Getpid() {
		return -1
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1 // it has ended, or the kernel can't
	}
	return processHandle(fd)
}

func (h processHandle) close() {
	if h >= 0 {
		unix.Close(int(h))
	}
}

// await returns when the process has ended, or after d, and whether it has.
func (h processHandle) await(d time.Duration) bool {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}
