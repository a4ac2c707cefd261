package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// stats asks for the attributes of an object as fast as it can.
func (b *bench) stats() (string, string, error) {
	store := b.path("store")
	m, err := b.mount(store, os.Getuid() == 0)
	if err != nil {
		return "", "", err
	}
	defer m.close()
	path := m.object(b.host)
	var st syscall.Stat_t
	n := 0
	var start time.Time
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if n == 0 {
			start = time.Now()
		}
		for range 1000 {
			if err := syscall.Stat(path, &st); err != nil {
				return "", "", err
			}
		}
		n += 1000
	}
	return fmt.Sprintf("%.0f k/s", float64(n)/time.Since(start).Seconds()/1000), "", nil
}

// largeStore mounts a store of many small blobs in a hundred repositories and
// lists the mount, and one of them.
func (b *bench) largeStore() (string, string, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return "", "", err
	}
	m, err := b.mount(store, os.Getuid() == 0)
	if err != nil {
		return "", "", err
	}
	if err := m.close(); err != nil { // now there is a store
		return "", "", err
	}
	if err := fill(store); err != nil {
		return "", "", err
	}
	syscall.Sync()
	var took []time.Duration
	for range max(1, *runs) {
		start := time.Now()
		m, err := b.mount(store, os.Getuid() == 0)
		if err != nil {
			return "", "", err
		}
		out, err := m.command("ls", m.dir, m.dir+"/many.test", m.dir+"/many.test/repo-0").Output()
		took = append(took, time.Since(start))
		if err := errors.Join(err, m.close()); err != nil {
			return "", "", err
		}
		if n := strings.Count(string(out), "sha256:"); n != 1000 {
			return "", "", fmt.Errorf("ls shows %d blobs, not 1000", n)
		}
	}
	slices.Sort(took)
	return fmt.Sprintf("%.3f s", took[len(took)/2].Seconds()), "", nil
}

// fill writes blobs and what names them into a store.
func fill(store string) error {
	for r := range 100 {
		objects := filepath.Join(store, "repos", "many.test", fmt.Sprintf("repo-%d", r), "_objects")
		if err := os.MkdirAll(objects, 0o700); err != nil {
			return err
		}
		for i := range 1000 {
			blob := fmt.Appendf(nil, "blob %d of %d", i, r)
			dgst := digest.FromBytes(blob)
			record := fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":%q,"size":%d}`, dgst, len(blob))
			err := errors.Join(
				os.WriteFile(filepath.Join(store, "blobs", "sha256", dgst.Encoded()), blob, 0o444),
				os.WriteFile(filepath.Join(objects, "sha256-"+dgst.Encoded()), []byte(record), 0o600))
			if err != nil {
				return err
			}
		}
	}
	return nil
}
