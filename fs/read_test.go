package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"distfs/fs"
)

// TestHold reads parts of objects that arrived but are not verified yet, and
// wants those held back that are to be.
func TestHold(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		verify fs.Verify
		size   int
		off    int64
		n      int
		held   bool
	}{
		{fs.AtEnd, size, 0, 100, false},
		{fs.AtEnd, size, 6<<20 - 100, 100, false},
		{fs.AtEnd, size, size - 1<<20, 1, true},
		{fs.AtEnd, size, size - 1, 1, true},
		{fs.AtEnd, 4 << 20, 0, 1, true},
		{fs.AtEnd, 4<<20 + 1, 0, 1, false},
		{fs.BeforeRead, size, 0, 1, true},
		{fs.NeverHold, size, size - 1, 1, false},
		{fs.NeverHold, 4 << 20, 0, 1, true},
	} {
		t.Run(fmt.Sprintf("%d/%d/%d", c.verify, c.size, c.off), func(t *testing.T) {
			src := newSource(t)
			b := src.add(repo, "", content(1, c.size)).gate()
			m := mountSource(t, src, &fs.Options{Verify: c.verify})
			const missing = 3 // held or not, the object lacks this MiB
			last := int64(c.size+mib-1) / mib
			b.release(0, missing)
			b.release(missing+1, last)
			got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), c.off, c.n})
			done := make(chan error, 1)
			go func() { done <- wait() }()
			if c.held {
				b.waitFor(t, func(b *blob) bool { return b.verifying > 0 })
				select {
				case err := <-done:
					t.Errorf("read before the digest matched: %d bytes, %v", len(*got), err)
				default:
				}
				b.release(missing, missing+1)
			}
			if err := <-done; err != nil || !bytes.Equal(*got, b.content[c.off:c.off+int64(c.n)]) {
				t.Errorf("read: %d bytes, %v, want %d", len(*got), err, c.n)
			}
			b.edit(func(b *blob) { b.gated = false })
		})
	}
}

// TestFailureSparesWhatIsHere reads on until what is here ends: a readahead
// that goes beyond it fails, and takes none of it along.
func TestFailureSparesWhatIsHere(t *testing.T) {
	src := newSource(t)
	b := src.add(repo, "", content(1, 8*mib)).gate()
	m := mountSource(t, src, nil)
	b.release(0, 5)
	b.edit(func(b *blob) { b.fail = syscall.ENETUNREACH })
	fd, err := call[string, int](m.agent, "Open", m.path(b.path()))
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < 5*mib; off += 4096 {
		got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, off, 4096})
		if err != nil || !bytes.Equal(got, b.content[off:off+4096]) {
			t.Fatalf("read at %d of %d bytes that are here: %v", off, 5*mib, err)
		}
	}
	if _, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 5 * mib, 1}); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("read behind them: %v, want ENETUNREACH", err)
	}
}

// TestMismatch reads an object that is not what its digest says. Who reads
// gets all right bytes or EIO, those too who opened it before; when the source
// is right again, the next open reads it.
func TestMismatch(t *testing.T) {
	const size = 8 << 20
	src := newSource(t)
	right := content(1, size)
	b := src.addAs(repo, "", digestOf(right), bytes.Repeat([]byte("wrong!!!"), size/8)).gate()
	m := mountSource(t, src, nil)
	path := m.path(b.path())
	before := m.stat(path)
	var fds [3]int
	for i := range fds {
		fd, err := call[string, int](m.agent, "Open", path)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	b.release(0, 2)
	if _, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fds[0], 0, 4096}); err != nil {
		t.Errorf("read before the mismatch: %v", err)
	}

	// Two reads are held: one for its range, one for the digest.
	_, middle := start[FileRange, []byte](m.agent, "Pread", FileRange{fds[1], 4 << 20, 4096})
	_, end := start[FileRange, []byte](m.agent, "Pread", FileRange{fds[2], size - 1, 1})
	b.waitFor(t, func(b *blob) bool { return b.verifying > 0 && b.waiting > 1 })
	b.release(0, size/mib)
	for name, wait := range map[string]func() error{"middle": middle, "end": end} {
		if err := wait(); !errors.Is(err, syscall.EIO) && name == "end" {
			t.Errorf("the read that was held at the %s: %v, want EIO", name, err)
		}
	}
	for _, fd := range fds {
		m.waitForEIO(fd, 0) // once the kernel dropped its pages
		m.waitForEIO(fd, 4<<20)
		m.waitForEIO(fd, size-1)
	}

	b.edit(func(b *blob) { b.content, b.bad = right, nil })
	m.wantRead(path, right)
	if after := m.stat(path); after.Ino == before.Ino {
		t.Errorf("st_ino is %d after the mismatch too", after.Ino)
	}
	for _, fd := range fds {
		m.waitForEIO(fd, 4<<20)
	}
	if !strings.Contains(m.log.String(), string(b.desc.Digest)) {
		t.Errorf("the log does not name the object: %s", m.log)
	}
}

func (m *mount) waitForEIO(fd int, off int64) {
	m.tb.Helper()
	ctx := within(m.tb, timeLimit)
	for {
		_, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, off, 1})
		if errors.Is(err, syscall.EIO) {
			return
		}
		if ctx.Err() != nil {
			m.tb.Fatalf("read at %d of an object with another digest: %v", off, err)
		}
	}
}

// TestReadsAtRandom compares reads at random, while the object arrives in a
// random order, with the object.
func TestReadsAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 12<<20).Draw(rt, "size")
		src := newSource(t)
		b := src.add(repo, "", content(byte(size), size)).gate()
		m := mountSource(t, src, &fs.Options{Verify: fs.NeverHold, NoPassthrough: rapid.Bool().Draw(rt, "without passthrough")})
		defer m.Unmount()
		defer m.agent.stop()
		chunks := rapid.Permutation(upTo((size+mib-1)/mib)).Draw(rt, "order")
		var wg sync.WaitGroup
		for range rapid.IntRange(1, 8).Draw(rt, "readers") {
			off := rapid.IntRange(0, size-1).Draw(rt, "off")
			n := rapid.IntRange(1, size-off).Draw(rt, "n")
			got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), int64(off), n})
			wg.Go(func() {
				if err := wait(); err != nil || !bytes.Equal(*got, b.content[off:off+n]) {
					t.Errorf("read %d at %d of %d: %d bytes, %v", n, off, size, len(*got), err)
				}
			})
		}
		for _, c := range chunks {
			b.release(int64(c), int64(c)+1)
		}
		wg.Wait()
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// TestStuckBesideHealthy has 200 readers of files of which nothing comes, and
// wants others to be served beside them.
func TestStuckBesideHealthy(t *testing.T) {
	src := newSource(t)
	m := mountSource(t, src, nil)
	var stuck []*blob
	var waits []func() error
	for i := range 200 {
		b := src.add(repo, "", slices.Concat([]byte{byte(i)}, content(1, 5<<20))).gate()
		stuck = append(stuck, b)
		_, wait := start[Range, []byte](m.agent, "Read", Range{m.path(b.path()), 0, 1 << 20})
		waits = append(waits, wait)
	}
	for _, b := range stuck {
		b.waitFor(t, func(b *blob) bool { return b.waiting > 0 })
	}
	began := time.Now()
	for i := range 20 {
		b := src.add(repo, "", content(byte(i), 6<<20))
		m.wantRead(m.path(b.path()), b.content)
	}
	t.Logf("20 objects of 6 MiB beside 200 stuck readers took %v", time.Since(began))
	for _, b := range stuck {
		b.edit(func(b *blob) { b.gated = false })
	}
	for i, wait := range waits {
		if err := wait(); err != nil {
			t.Errorf("stuck reader %d, released: %v", i, err)
		}
	}
}
