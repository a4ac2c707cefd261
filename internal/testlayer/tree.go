package testlayer

import (
	"crypto/sha256"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Tree returns all that is in dir, itself included, with a line for each path
// of all that can be told of it: type, mode, owner, times, where a link leads,
// the first path of the same inode, extended attributes, content.
func Tree(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	tree, err := ReadTree(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

// ReadTree is Tree where there is no test to fail.
func ReadTree(dir string) (map[string]string, error) {
	tree, first := make(map[string]string), make(map[uint64]string)
	err := filepath.WalkDir(dir, func(path string, _ iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		line, err := describe(path, name, first)
		tree[name] = line
		return err
	})
	return tree, err
}

func describe(path, name string, first map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	line := fmt.Sprintf("%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return line + xattrs(path), nil
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return line + " -> " + target + xattrs(path), err
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %d bytes %.4x", len(b), sha256.Sum256(b))
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Nlink > 1 {
		if first[st.Ino] == "" {
			first[st.Ino] = name
		}
		line += " is " + first[st.Ino]
	}
	return line + xattrs(path), nil
}

// xattrs are the extended attributes, in the order of their names.
func xattrs(path string) (all string) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return ""
	}
	for _, name := range slices.Sorted(strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")) {
		value := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(path, name, value); err == nil && name != "" {
			all += fmt.Sprintf(" %s=%q", name, value[:n])
		}
	}
	return all
}
