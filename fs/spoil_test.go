package fs_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"distfs/fs"
)

// What was whole and is found to have other bytes is a new inode for who opens it, and EIO for who reads it through this
// process; the kernel keeps no page of it.
func TestSpoilt(t *testing.T) {
	for _, pass := range []bool{true, false} {
		src := newSource(t)
		right := content(1, 6*mib)
		b := src.add(repo, "", bytes.Clone(right))
		b.content[5] ^= 1 // it rotted
		b.complete(t)
		m := mountSource(t, src, &fs.Options{NoPassthrough: !pass})
		path := m.path(b.path())
		m.wantRead(path, b.content)
		before := m.stat(path)
		fd, err := call[string, int](m.agent, "Open", path)
		if err != nil {
			t.Fatal(err)
		}

		b.edit(func(b *blob) { b.bad, b.content = errors.New("rotten"), right })
		b.lose()
		src.spoilt(b.desc.Digest)
		if !pass {
			m.wantEIO(fd)
		}
		b.edit(func(b *blob) { b.bad = nil })
		m.wantRead(path, right)
		b.complete(t)
		src.spoilt(b.desc.Digest) // told late, or once more
		m.wantRead(path, right)
		if after := m.stat(path); after.Ino == before.Ino {
			t.Errorf("pass %t: st_ino is %d still", pass, after.Ino)
		}
	}
}

// wantEIO waits until fd, which is open, can't be read: the kernel drops its pages in its own time.
func (m *mount) wantEIO(fd int) {
	m.tb.Helper()
	for end := time.Now().Add(timeLimit); ; {
		_, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, 1})
		if errors.Is(err, syscall.EIO) {
			return
		}
		if time.Now().After(end) {
			m.tb.Fatalf("read of what is bad: %v, want %v", err, unix.EIO)
		}
	}
}
