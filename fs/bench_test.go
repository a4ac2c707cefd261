package fs_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"distfs/fs"
)

// Repeat is something to do N times with a file.
type Repeat struct {
	Path string
	N    int
}

// StatHot has two threads stat the file.
func (Agent) StatHot(r Repeat, ns *int64) error {
	began := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var st unix.Stat_t
			for range r.N / 2 {
				unix.Lstat(r.Path, &st)
			}
		})
	}
	wg.Wait()
	*ns = int64(time.Since(began))
	return nil
}

// OpenClose opens and closes the file.
func (Agent) OpenClose(r Repeat, ns *int64) error {
	began := time.Now()
	for range r.N {
		fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return wire(err)
		}
		unix.Close(fd)
	}
	*ns = int64(time.Since(began))
	return nil
}

// Cat reads the file N times in pieces of 128 KiB.
func (Agent) Cat(r Repeat, ns *int64) error {
	began := time.Now()
	buf := make([]byte, 128<<10)
	for range r.N {
		fd, err := unix.Open(r.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return wire(err)
		}
		for n := 1; n > 0 && err == nil; {
			n, err = unix.Read(fd, buf)
		}
		unix.Close(fd)
		if err != nil {
			return wire(err)
		}
	}
	*ns = int64(time.Since(began))
	return nil
}

func repeat(b *testing.B, m *mount, method, path string, n int) time.Duration {
	b.Helper()
	ns, err := call[Repeat, int64](m.agent, method, Repeat{path, n})
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ns)
}

func BenchmarkStat(b *testing.B) {
	src := newSource(b)
	whole := src.add(repo, "", content(1, 5<<20)).complete(b)
	partial := src.add(repo, "", content(2, 5<<20)).gate()
	m := mountSource(b, src, nil)
	for name, path := range map[string]string{
		"whole": m.path(whole.path()), "partial": m.path(partial.path()), "absent": m.path("reg.example/.git"),
	} {
		m.agent.tb = b
		call[string, unix.Stat_t](m.agent, "Lstat", path)
		b.Run(name, func(b *testing.B) {
			took := repeat(b, m, "StatHot", path, b.N)
			b.ReportMetric(float64(b.N)/took.Seconds(), "stats/s")
		})
	}
}

func BenchmarkOpenClose(b *testing.B) {
	src := newSource(b)
	for name, blob := range map[string]*blob{
		"passed": src.add(repo, "", content(1, 5<<20)).complete(b),
		"small":  src.add(repo, "", content(2, 5<<10)).complete(b),
		"lazy":   src.add(repo, "", content(3, 5<<20)).gate(),
	} {
		m := mountSource(b, src, nil)
		b.Run(name, func(b *testing.B) {
			took := repeat(b, m, "OpenClose", m.path(blob.path()), b.N)
			b.ReportMetric(float64(b.N)/took.Seconds(), "opens/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	src := newSource(b)
	whole := src.add(repo, "", content(1, size)).complete(b)
	for name, opts := range map[string]*fs.Options{"passthrough": {}, "cached": {NoPassthrough: true}} {
		m := mountSource(b, src, opts)
		path := m.path(whole.path())
		for _, state := range []string{"first", "again"} {
			b.Run(fmt.Sprintf("%s/%s", name, state), func(b *testing.B) {
				b.SetBytes(size)
				took := repeat(b, m, "Cat", path, b.N)
				b.ReportMetric(float64(b.N)*size/took.Seconds()/1e6, "MB/s(agent)")
			})
		}
	}
}

// BenchmarkCount is what counting adds to each request.
func BenchmarkCount(b *testing.B) {
	count := fs.Count()
	b.ReportAllocs()
	for b.Loop() {
		count()
	}
}
