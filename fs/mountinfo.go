package fs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A mountInfo is a line of /proc/self/mountinfo. Reading it touches no mount, so
// it is safe where one of them is dead.
type mountInfo struct {
	id     int
	dev    string // major:minor
	root   string // which of its directories is seen there
	point  string
	fsType string
}

func readMounts() ([]mountInfo, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(b)), nil
}

// parseMounts parses proc_pid_mountinfo(5). Lines of another form are left out.
func parseMounts(info string) []mountInfo {
	var mounts []mountInfo
	for line := range strings.Lines(info) {
		before, after, found := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(rest) < 1 {
			continue
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		mounts = append(mounts, mountInfo{id: id, dev: fields[2], root: unescape(fields[3]), point: unescape(fields[4]), fsType: rest[0]})
	}
	return mounts
}

// unescape undoes the \ooo that the kernel writes for blanks and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// topmost returns the mount that is seen at point. The error is
// fs.ErrNotExist if nothing is mounted there.
func topmost(point string) (mountInfo, error) {
	mounts, err := readMounts()
	if err != nil {
		return mountInfo{}, err
	}
	m, ok := seen(mounts, point)
	if !ok {
		err = &notMountedError{point, "nothing is mounted there"}
	}
	return m, err
}

// seen returns the mount that is seen at point: the last one there.
func seen(mounts []mountInfo, point string) (mountInfo, bool) {
	for _, m := range slices.Backward(mounts) {
		if m.point == point {
			return m, true
		}
	}
	return mountInfo{}, false
}

// resolve returns the absolute path of dir without symlinks, as mountinfo
// spells it. It does not touch what is mounted there: that may be dead.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		if abs == "/" {
			return abs, nil
		}
		parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if err != nil {
			return "", err
		}
		point := filepath.Join(parent, filepath.Base(abs))
		if _, err := topmost(point); err == nil {
			return point, nil
		}
		target, err := os.Readlink(point)
		if errors.Is(err, syscall.EINVAL) {
			return point, nil // no link
		}
		if err != nil {
			return "", err
		}
		if abs = target; !filepath.IsAbs(target) {
			abs = filepath.Join(parent, target)
		}
	}
	return "", fmt.Errorf("%s: %w", dir, syscall.ELOOP)
}

// maxLinks is how many links in a row may lead to a mount point.
const maxLinks = 40

// A notMountedError says that nothing is mounted at a path.
type notMountedError struct{ path, what string }

func (e *notMountedError) Error() string { return e.path + ": " + e.what }

// Is makes it fs.ErrNotExist.
func (e *notMountedError) Is(target error) bool { return target == iofs.ErrNotExist }
