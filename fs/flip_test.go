package fs_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFlips opens an object again and again, reads and maps it, while it is
// whole at one time and partly here at another. To a mixture of opens that it
// reads itself and others the kernel answers EIO: there may be none.
func TestFlips(t *testing.T) {
	want := 20_000
	if testing.Short() {
		want = 5_000
	}
	src := newSource(t)
	st := Storm{Opens: want}
	var blobs []*blob
	for i := range 16 {
		b := src.add("reg.example/a/b", "", content(byte(i), 2*mib)).complete(t)
		st.Want = append(st.Want, b.content)
		blobs = append(blobs, b)
	}
	m := mountSource(t, src, nil)
	for _, b := range blobs {
		st.Paths = append(st.Paths, m.path(b.path()))
	}

	ctx, cancel := context.WithCancel(within(t, 5*time.Minute))
	var wg sync.WaitGroup
	var flips int
	wg.Go(func() {
		for ctx.Err() == nil {
			b := blobs[flips%len(blobs)]
			flips++
			b.lose()
			pause(ctx)
			b.complete(t)
		}
	})
	opens, err := call[Storm, int](m.agent, "Storm", st)
	if err != nil {
		t.Errorf("after %d opens: %v", opens, err)
	}
	cancel()
	wg.Wait()
	all := 0
	for _, b := range blobs {
		b.edit(func(b *blob) { all += b.all })
	}
	t.Logf("%d opens, objects were lost %d times, opened %d times in the source", opens, flips, all)
	if strings.Contains(m.log.String(), "no passthrough for") {
		t.Errorf("the kernel refused a file")
	}
}

// pause lets others in for about a millisecond.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}

// A Storm is that many opens of files.
type Storm struct {
	Paths []string
	Want  [][]byte
	Opens int
}

// Storm ends with the first error.
func (Agent) Storm(st Storm, opens *int) error {
	var wg sync.WaitGroup
	var n atomic.Int64
	var failed atomic.Pointer[error]
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for n.Add(1) <= int64(st.Opens) && failed.Load() == nil {
				k := rnd.IntN(len(st.Paths))
				if err := openSomehow(rnd, st.Paths[k], st.Want[k]); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	*opens = int(n.Load())
	if err := failed.Load(); err != nil {
		return wire(*err)
	}
	return nil
}

// openSomehow opens path and reads a bit of it in one of several ways.
func openSomehow(rnd *rand.Rand, path string, want []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	off, n := rnd.IntN(len(want)-mib), rnd.IntN(64<<10)+1
	if rnd.IntN(4) == 0 {
		return readMapped(fd, want, off, n)
	}
	buf := make([]byte, n)
	got, err := unix.Pread(fd, buf, int64(off))
	if err == unix.EINTR {
		return nil
	}
	if err == nil && !bytes.Equal(buf[:got], want[off:off+n]) {
		err = unix.EBADMSG
	}
	return err
}

// readMapped reads through a mapping, after the file was closed.
func readMapped(fd int, want []byte, off, n int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	mapped, err := unix.Mmap(dup, 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	unix.Close(dup)
	if err != nil {
		return err
	}
	defer unix.Munmap(mapped)
	if !bytes.Equal(mapped[off:off+n], want[off:off+n]) {
		return unix.EBADMSG
	}
	return nil
}
