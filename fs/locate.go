package fs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Place is a path in a mount of distfs.
type Place struct {
	Mountpoint string
	Device     string // major:minor, which all mounts of one file system share
	Path       string // from the file system's root; may have .. in it, and links
}

// Place is where the mount was made.
func (m *Mounted) Place() Place { return Place{Mountpoint: m.at.point, Device: m.at.dev} }

// Locate says where in which mount name lies. It resolves the links on the way
// to the mount and touches nothing in it: there each look may ask the network,
// and in a dead one it fails. The error is iofs.ErrNotExist if name lies in no
// mount of distfs.
func Locate(name string) (Place, error) {
	mounts, err := readMounts()
	if err != nil {
		return Place{}, err
	}
	rest := strings.Split(name, "/")
	if !path.IsAbs(name) {
		dir, err := unix.Getwd() // os.Getwd may look into the mount
		if err != nil {
			return Place{}, fmt.Errorf("working directory: %w", err)
		}
		rest = append(strings.Split(dir, "/"), rest...)
	}
	at := "/"
	for links := 0; ; {
		if m, ok := seen(mounts, at); ok && m.fsType == fsType {
			return Place{at, m.dev, strings.TrimLeft(m.root+"/"+strings.Join(rest, "/"), "/")}, nil
		}
		if len(rest) == 0 {
			return Place{}, &notMountedError{name, "in no mount of distfs"}
		}
		elem := rest[0]
		rest = rest[1:]
		next := path.Join(at, elem)
		if elem == "" || elem == "." || elem == ".." {
			at = next
			continue
		}
		if m, ok := seen(mounts, next); ok && m.fsType == fsType || len(rest) == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		switch {
		case errors.Is(err, syscall.EINVAL): // no link
			at = next
			continue
		case err != nil:
			return Place{}, err
		}
		if links++; links > maxLinks {
			return Place{}, fmt.Errorf("%s: %w", name, syscall.ELOOP)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
}
