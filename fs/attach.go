package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attach mounts at point and returns the descriptor of /dev/fuse, which is
// closed on exec: a child that inherited it would keep the mount hanging when
// this process is gone.
func attach(point string, opts *Options) (fd int, err error) {
	if os.Geteuid() == 0 {
		return attachDirectly(point, opts)
	}
	return attachByHelper(point, opts)
}

// options are those that the kernel and fusermount3 both know.
func (o *Options) options() []string {
	options := []string{fmt.Sprintf("max_read=%d", maxRequest)}
	if o.AllowOther {
		// With others come permissions: the kernel checks them by the mode bits.
		options = append(options, "allow_other", "default_permissions")
	}
	return options
}

func attachDirectly(point string, opts *Options) (fd int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return -1, unix.ENOTDIR
	}
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	options := append(opts.options(), fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d",
		fd, st.Mode&unix.S_IFMT, os.Geteuid(), os.Getegid()))
	flags := uintptr(unix.MS_RDONLY)
	if !opts.Suid {
		flags |= unix.MS_NOSUID
	}
	if !opts.Dev {
		flags |= unix.MS_NODEV
	}
	if opts.NoExec {
		flags |= unix.MS_NOEXEC
	}
	if err := unix.Mount(fsName, point, fsType, flags, strings.Join(options, ",")); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// helper is who mounts for those who may not. It sets nosuid and nodev.
const helper = "fusermount3"

// attachByHelper has the helper mount, which sends the descriptor back over a
// socket whose number stands in _FUSE_COMMFD.
func attachByHelper(point string, opts *Options) (fd int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	defer theirs.Close()
	options := append(opts.options(), "ro", "fsname="+fsName, "subtype="+fsName)
	if opts.NoExec {
		options = append(options, "noexec")
	}
	err = runHelper(theirs, "-o", strings.Join(options, ","), "--", point)
	if err != nil {
		return -1, err
	}
	return receive(ours)
}

// receive returns the descriptor that was sent over sock.
func receive(sock *os.File) (fd int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), make([]byte, 4), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", helper, err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%s sent no descriptor: %w", helper, errors.Join(err, unix.EPROTO))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%s sent no descriptor: %w", helper, errors.Join(err, unix.EPROTO))
	}
	return fds[0], nil
}

// helperTime is how long the helper may take.
const helperTime = 20 * time.Second

// runHelper runs the helper, of which what it says on stderr is the error.
// Over sock, if that is not nil, it sends a descriptor.
func runHelper(sock *os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, args...)
	if sock != nil {
		cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
		cmd.ExtraFiles = []*os.File{sock}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if said := strings.TrimSpace(stderr.String()); err != nil && said != "" {
		return fmt.Errorf("%s: %w", said, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", helper, err)
	}
	return nil
}

// detach unmounts what is mounted at point; lazily: whoever uses it.
func detach(point string, lazily bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazily {
			flags |= unix.MNT_DETACH
		}
		return unix.Unmount(point, flags)
	}
	args := []string{"-u", "--", point}
	if lazily {
		args = append([]string{"-z"}, args...)
	}
	return runHelper(nil, args...)
}
