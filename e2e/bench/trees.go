package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"distfs/internal/slowlink"
)

// ext4Tree unpacks the gzip image, once, onto the file system to compare with.
func (b *bench) ext4Tree() (string, error) {
	dir := b.path("ext4")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := errors.Join(b.imageServed(), fresh(b.path("store"))); err != nil {
		return "", err
	}
	_, err := b.own("pull", "--progress=none", b.host+"/"+imageRepo+":"+imageTag, dir)
	return dir, err
}

func (b *bench) find(dir string) (time.Duration, error) {
	return timed(exec.CommandContext(b.ctx, "find", dir))
}

// tar reads all of dir. To /dev/null itself tar would read nothing.
func (b *bench) tar(dir string) (time.Duration, error) {
	return timed(exec.CommandContext(b.ctx, "sh", "-c", `tar -C "$0" -c . | cat > /dev/null`, dir))
}

// found compares `find` of the tree with the same on ext4, warm: the first after
// a mount whose store has the indexes, or further ones.
func (b *bench) found(first bool) (string, string, error) {
	dir, err := b.ext4Tree()
	if err != nil {
		return "", "", err
	}
	if err := b.indexed(); err != nil {
		return "", "", err
	}
	if _, err := b.find(dir); err != nil {
		return "", "", err
	}
	pairs, err := compare(*runs, func() (time.Duration, error) {
		m, err := b.mountOwn()
		if err != nil {
			return 0, err
		}
		root := m.rootfs(b.host, imageTag)
		_, err = os.ReadDir(root) // the indexes are here now
		d, err2 := b.find(root)
		if !first && err2 == nil {
			d, err2 = b.find(root)
		}
		return d, errors.Join(err, err2, m.close())
	}, func() (time.Duration, error) { return b.find(dir) })
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// taredCold compares `tar` of the tree, on an empty store, with curl and tar.
func (b *bench) taredCold(tag string, runs int) (string, string, error) {
	pairs, err := compare(runs, func() (time.Duration, error) {
		if err := fresh(b.path("store")); err != nil {
			return 0, err
		}
		m, err := b.mountOwn()
		if err != nil {
			return 0, err
		}
		d, err := b.tar(m.rootfs(b.host, tag))
		return d, errors.Join(err, m.close())
	}, b.curlAndTar)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// tarCold has the image served as gzip, for the peer, and in a format, for us.
func (b *bench) tarCold(tag string) (string, string, error) {
	if err := errors.Join(b.imageServed(), b.formatServed(tag)); err != nil {
		return "", "", err
	}
	return b.taredCold(tag, *runs)
}

func (b *bench) tarSlowly(tag string) (string, string, error) {
	if err := errors.Join(b.imageServed(), b.formatServed(tag)); err != nil {
		return "", "", err
	}
	link, err := slowlink.Listen(b.host, slowlink.Options{RTT: rtt, Bandwidth: 20_000_000})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	slow := *b
	slow.host = link.Addr()
	measured, detail, err := slow.taredCold(tag, min(1, *runs))
	b.peak = max(b.peak, slow.peak)
	return measured, detail, err
}

// tarAgain compares `tar` of the tree with the same on ext4, warm, after one that
// had it all fetched: below a mount of all registries, or mounted alone.
func (b *bench) tarAgain(alone bool) (string, string, error) {
	dir, err := b.ext4Tree()
	if err != nil {
		return "", "", err
	}
	var args []string
	if alone {
		args = []string{b.host + "/" + imageRepo + ":" + imageTag}
	}
	if err := fresh(b.path("store")); err != nil {
		return "", "", err
	}
	m, err := b.mountOwn(args...)
	if err != nil {
		return "", "", err
	}
	defer m.close()
	root := m.dir
	if !alone {
		root = m.rootfs(b.host, imageTag)
	}
	for _, d := range []string{root, dir} {
		if _, err := b.tar(d); err != nil {
			return "", "", err
		}
	}
	pairs, err := compare(*runs, func() (time.Duration, error) { return b.tar(root) }, func() (time.Duration, error) { return b.tar(dir) })
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// randomReads reads 4 KiB here and there in a large file, of a layer that is in the
// store with its index; nothing of the file was read before.
func (b *bench) randomReads() (string, string, error) {
	if err := b.indexed(); err != nil {
		return "", "", err
	}
	if _, err := b.own("fetch", "--progress=none", b.host+"/"+imageRepo+":"+imageTag); err != nil {
		return "", "", err
	}
	m, err := b.mountOwn()
	if err != nil {
		return "", "", err
	}
	defer m.close()
	f, err := os.Open(filepath.Join(m.rootfs(b.host, imageTag), bigFile))
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		return "", "", err
	}
	r := rand.New(rand.NewPCG(1, 0))
	var took []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := io.ReadFull(io.NewSectionReader(f, 4096*r.Int64N(bigFileSize/4096), 4096), make([]byte, 4096)); err != nil {
			return "", "", err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return fmt.Sprintf("%.2f ms", ms(took[len(took)/2])), fmt.Sprintf("p99 %.1f ms, most %.1f ms", ms(took[len(took)*99/100]), ms(took[len(took)-1])), nil
}
