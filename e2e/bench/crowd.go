package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// at is the path of an object of an origin below the mount.
func (m *mount) at(host string, dgst digest.Digest) string {
	return filepath.Join(m.dir, host, repo, dgst.String())
}

// crowded mounts an empty store.
func (b *bench) crowded() (*mount, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return nil, err
	}
	return b.mount(store, os.Getuid() == 0)
}

// readAt reads n bytes of a file from off on.
func readAt(path string, off, n int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, io.NewSectionReader(f, off, n))
	return err
}

// together runs f for 0 to n-1, all at once.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// oneObject has many read a quarter each of an object of which a quarter is here.
func (b *bench) oneObject() (string, string, error) {
	const size = 64 << 20
	o := newOrigin()
	defer o.Close()
	dgst, err := o.add(1, size, true)
	if err != nil {
		return "", "", err
	}
	m, err := b.crowded()
	if err != nil {
		return "", "", err
	}
	defer m.close()
	path := m.at(o.host(), dgst)
	if err := readAt(path, 0, size/4); err != nil {
		return "", "", err
	}
	start := time.Now()
	err = together(1000, func(i int) error { return readAt(path, int64(i%48)<<20, 16<<20) })
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.3f", float64(o.sent.Load())/size), fmt.Sprintf("%.1f s", time.Since(start).Seconds()), nil
}

// deadRegistry reads small objects of one registry while many wait for another,
// which takes connections and says nothing.
func (b *bench) deadRegistry() (string, string, error) {
	dead, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	if err != nil {
		return "", "", err
	}
	defer dead.Close()
	o := newOrigin()
	defer o.Close()
	var dgsts []digest.Digest
	for i := range 500 {
		dgst, err := o.add(uint64(i), 64<<10, true)
		if err != nil {
			return "", "", err
		}
		dgsts = append(dgsts, dgst)
	}
	m, err := b.crowded()
	if err != nil {
		return "", "", err
	}
	defer m.close()
	var stuck sync.WaitGroup
	var waiting, failed atomic.Int64
	for i := range 200 {
		stuck.Go(func() {
			waiting.Add(1)
			if readAt(m.at(dead.Addr().String(), digest.FromString(fmt.Sprint(i))), 0, 4096) != nil {
				failed.Add(1)
			}
		})
	}
	for waiting.Load() < 200 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second)
	var took []time.Duration
	for _, dgst := range dgsts {
		start := time.Now()
		if err := readAt(m.at(o.host(), dgst), 0, 64<<10); err != nil {
			return "", "", err
		}
		took = append(took, time.Since(start))
	}
	still := 200 - failed.Load()
	stuck.Wait()
	slices.Sort(took)
	return fmt.Sprintf("%.1f ms", took[len(took)*99/100].Seconds()*1000),
		fmt.Sprintf("median %.1f ms, most %.1f ms, %d stuck to the end", took[len(took)/2].Seconds()*1000, took[len(took)-1].Seconds()*1000, still), nil
}

// stalledHost waits for the first byte of an object while as many others of its
// host as there are connections say nothing.
func (b *bench) stalledHost() (string, string, error) {
	const size = 128 << 20
	o := newOrigin()
	defer o.Close()
	var dgsts []digest.Digest
	for i := range 9 {
		dgst, err := o.add(uint64(i), size, false)
		if err != nil {
			return "", "", err
		}
		dgsts = append(dgsts, dgst)
	}
	o.hold(dgsts[:8]...)
	m, err := b.crowded()
	if err != nil {
		return "", "", err
	}
	defer m.close()
	var stalled sync.WaitGroup
	for _, dgst := range dgsts[:8] {
		stalled.Go(func() { _ = readAt(m.at(o.host(), dgst), 0, 4096) })
	}
	for o.asking.Load() < 8 {
		time.Sleep(10 * time.Millisecond)
	}
	start := time.Now()
	err = readAt(m.at(o.host(), dgsts[8]), 0, 4096)
	took, asking := time.Since(start), o.asking.Load()
	o.release()
	stalled.Wait()
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f s", took.Seconds()), fmt.Sprintf("%d requests stalled", asking), nil
}

// stuckReaders has each of many wait for a file of its own, and then all get it.
func (b *bench) stuckReaders() (string, string, error) {
	const size = 1 << 20
	o := newOrigin()
	defer o.Close()
	dgsts := make([]digest.Digest, 1000)
	for i := range dgsts {
		var err error
		if dgsts[i], err = o.add(uint64(i), size, true); err != nil {
			return "", "", err
		}
	}
	m, err := b.crowded()
	if err != nil {
		return "", "", err
	}
	for _, dgst := range dgsts { // whoever opens knows the size
		if _, err := os.Stat(m.at(o.host(), dgst)); err != nil {
			return "", "", errors.Join(err, m.close())
		}
	}
	o.hold(dgsts...)
	var all sync.WaitGroup
	var opened atomic.Int64
	errs := make([]error, len(dgsts))
	start := time.Now()
	for i, dgst := range dgsts {
		all.Go(func() {
			f, err := os.Open(m.at(o.host(), dgst))
			opened.Add(1)
			if err != nil {
				errs[i] = err
				return
			}
			defer f.Close()
			_, errs[i] = f.ReadAt(make([]byte, size), 0)
		})
	}
	for opened.Load() < int64(len(dgsts)) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // the last have come to their READ
	stuck := time.Since(start)
	before := peakKiB(m.cmd.Process.Pid)
	o.release()
	all.Wait()
	peak := peakKiB(m.cmd.Process.Pid)
	above := b.peak
	err = errors.Join(errors.Join(errs...), m.close())
	b.peak = above // it has a bound of its own
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.1f MiB", float64(peak)/1024),
		fmt.Sprintf("%.1f MiB while stuck, released after %.1f s, done %.1f s later", float64(before)/1024, stuck.Seconds(), (time.Since(start) - stuck).Seconds()), nil
}

// fourProcesses has four fetch the same object into one store, at once.
func (b *bench) fourProcesses() (string, string, error) {
	c, err := b.count()
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	store := b.path("store")
	if err := fresh(store); err != nil {
		return "", "", err
	}
	start := time.Now()
	err = together(4, func(int) error {
		_, err := timed(exec.CommandContext(b.ctx, b.distfs, "--store", store, "fetch-object", c.Listener.Addr().String()+"/"+repo, b.dgst.String()))
		return err
	})
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.3f", float64(c.moved.Load())/float64(*size)), fmt.Sprintf("%.1f s, %d requests", time.Since(start).Seconds(), c.gets.Load()), nil
}
