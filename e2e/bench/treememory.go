package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"distfs/e2e/formats"
)

// browsed is the daemon's largest resident set after the whole image was listed and read.
func (b *bench) browsed() (string, string, error) {
	if err := errors.Join(b.imageServed(), fresh(b.path("store"))); err != nil {
		return "", "", err
	}
	return b.memoryOf(func(m *mount) error {
		root := m.rootfs(b.host, imageTag)
		_, err := b.find(root)
		if err == nil {
			_, err = b.tar(root)
		}
		return err
	})
}

// memoryOf is the largest resident set of a daemon that was used so. It has a bound of its own.
func (b *bench) memoryOf(use func(m *mount) error) (string, string, error) {
	above := b.peak
	m, err := b.mountOwn()
	if err != nil {
		return "", "", err
	}
	err = use(m)
	peak := peakKiB(m.cmd.Process.Pid)
	err = errors.Join(err, m.close())
	b.peak = above
	return fmt.Sprintf("%.1f MiB", float64(peak)/1024), "", err
}

// The image of many names.
const (
	manyDirs  = 1000
	manyNames = 1000 // in each
	manyRepo  = "bench/many"
)

// manyListed is the daemon's largest resident set after all names of a large image were listed.
func (b *bench) manyListed() (string, string, error) {
	if err := errors.Join(b.manyServed(), fresh(b.path("store"))); err != nil {
		return "", "", err
	}
	return b.memoryOf(func(m *mount) error {
		out, err := m.command("sh", "-c", `ls -f -R "$0" | wc -l`, filepath.Join(m.dir, b.host, manyRepo+":1", "rootfs")).Output()
		if n := strings.TrimSpace(string(out)); err == nil && len(n) < len("1000000") {
			return fmt.Errorf("ls shows %s lines", n)
		}
		return err
	})
}

// manyServed has it in the registry.
func (b *bench) manyServed() error {
	if b.served[manyRepo] {
		return nil
	}
	b.served[manyRepo] = true
	layout, name := b.path("many"), b.path("many.tar")
	if err := errors.Join(os.RemoveAll(layout), writeManyTar(name), formats.Add(layout, "1", []string{name}, formats.Gzip), os.Remove(name)); err != nil {
		return err
	}
	_, err := timed(exec.CommandContext(b.ctx, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "oci:"+layout+":1", "docker://"+b.host+"/"+manyRepo+":1"))
	return err
}

func writeManyTar(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for d := range manyDirs {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", d), Mode: 0o755}); err != nil {
			return err
		}
		for i := range manyNames {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/a-file-with-a-name-%d", d, i), Mode: 0o644}); err != nil {
				return err
			}
		}
	}
	return w.Close()
}
