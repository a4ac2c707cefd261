package fs_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"distfs/fs"
)

// pythonRead opens a file, reads it and prints how many bytes there were, or
// the name of the error. Whatever Python takes for the end of the file, as it
// does EAGAIN, would be a number.
const pythonRead = `
import errno, sys
n = 0
try:
    with open(sys.argv[1], 'rb') as f:
        while b := f.read(1 << 20):
            n += len(b)
    print(n)
except OSError as e:
    print(errno.errorcode[e.errno])
`

func TestErrnos(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   string
		logged bool
	}{
		{iofs.ErrNotExist, "ENOENT", false},
		{iofs.ErrPermission, "EACCES", true},
		{os.ErrDeadlineExceeded, "ETIMEDOUT", true},
		{context.DeadlineExceeded, "ETIMEDOUT", true},
		{syscall.EHOSTUNREACH, "EHOSTUNREACH", true},
		{syscall.EBUSY, "EBUSY", true},
		{syscall.ENETUNREACH, "ENETUNREACH", false},
		{syscall.EIO, "EIO", true},
		{syscall.EAGAIN, "EIO", true},
		{syscall.EINTR, "EIO", true},
		{context.Canceled, "EIO", true},
		{errors.New("anything"), "EIO", true},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			src := newSource(t)
			m := mountSource(t, src, nil)
			wrapped := fmt.Errorf("the chain: %w", c.err)
			check := func(when string, b *blob) {
				t.Helper()
				if got := strings.TrimSpace(run(t, "python3", "-c", pythonRead, m.path(b.path()))); got != c.want {
					t.Errorf("%s: python reads %s, want %s", when, got, c.want)
				}
				told, want := 0, 0
				for line := range strings.Lines(m.log.String()) {
					if strings.Contains(line, "the chain: "+c.err.Error()) && strings.Contains(line, b.path()) && strings.Contains(line, "errno="+c.want) {
						told++
					}
				}
				if c.logged {
					want = 1
				}
				if told != want {
					t.Errorf("%s: told in %d lines, want %d: %s", when, told, want, m.log)
				}
			}
			src.set(func(s *source) { s.refuse = wrapped })
			check("open", src.add(repo, "", content(1, 10)))
			src.set(func(s *source) { s.refuse = nil })
			for i, size := range []int{10, 9 << 20} {
				check("read", src.add(repo, "", content(byte(i+2), size)).edit(func(b *blob) { b.fail = wrapped }))
			}
		})
	}
}

// TestFailureEnds wants a read to work again once its source does.
func TestFailureEnds(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 9<<20)).edit(func(b *blob) { b.fail = syscall.EHOSTUNREACH })
	m := mountSource(t, src, nil)
	fd, err := call[string, int](m.agent, "Open", m.path(b.path()))
	if err != nil {
		t.Fatal(err)
	}
	read := FileRange{fd, 0, 1}
	if _, err := call[FileRange, []byte](m.agent, "Pread", read); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("read: %v, want EHOSTUNREACH", err)
	}
	b.edit(func(b *blob) { b.fail = nil })
	ctx := within(t, timeLimit)
	for err = unix.EHOSTUNREACH; err != nil && ctx.Err() == nil; {
		_, err = call[FileRange, []byte](m.agent, "Pread", read)
	}
	if err != nil {
		t.Errorf("read after the source is back: %v", err)
	}
	m.wantRead(m.path(b.path()), b.content)
}

// TestEvicted reads an object that was whole and is gone from the store: it is
// fetched again, though the kernel was told that it was whole for ever.
func TestEvicted(t *testing.T) {
	for _, pass := range []bool{true, false} {
		src := newSource(t)
		b := src.add(repo, "", content(1, 9<<20)).complete(t)
		m := mountSource(t, src, &fs.Options{NoPassthrough: !pass})
		m.wantRead(m.path(b.path()), b.content)
		b.lose()
		m.wantRead(m.path(b.path()), b.content)
	}
}
