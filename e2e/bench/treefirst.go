package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rootfs is the image's tree in a format, below a mount of all registries.
func (m *mount) rootfs(host, tag string) string {
	return filepath.Join(m.dir, host, imageRepo+":"+tag, "rootfs")
}

// mountOwn mounts the store of these cases as who runs them.
func (b *bench) mountOwn(args ...string) (*mount, error) {
	return b.mount(b.path("store"), os.Getuid() == 0, args...)
}

// osReleaseFrom times `cat` of a file of the lowest layer through a mount on the store.
func (b *bench) osReleaseFrom(host, tag string) (time.Duration, error) {
	m, err := b.mountOwn()
	if err != nil {
		return 0, err
	}
	d, err := m.cat(filepath.Join(m.rootfs(host, tag), osRelease))
	return d, errors.Join(err, m.close())
}

// osReleaseFresh is osReleaseFrom on an empty store.
func (b *bench) osReleaseFresh(host, tag string) (time.Duration, error) {
	if err := fresh(b.path("store")); err != nil {
		return 0, err
	}
	return b.osReleaseFrom(host, tag)
}

// lazily reads a file of an image whose layers have tables of contents, on an empty
// store: how long it takes, and in one more run what is sent.
func (b *bench) lazily(tag string) (string, string, error) {
	if err := b.formatServed(tag); err != nil {
		return "", "", err
	}
	var took []time.Duration
	for range max(1, *runs) {
		d, err := b.osReleaseFresh(b.host, tag)
		if err != nil {
			return "", "", err
		}
		took = append(took, d)
	}
	c, err := b.count()
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if _, err := b.osReleaseFresh(c.Listener.Addr().String(), tag); err != nil {
		return "", "", err
	}
	tocs, err := b.tocBytes(tag)
	if err != nil {
		return "", "", err
	}
	slices.Sort(took)
	return fmt.Sprintf("%.3f s, %.2f MiB, %d", took[len(took)/2].Seconds(), float64(c.moved.Load())/(1<<20), c.heads.Load()+c.gets.Load()),
		fmt.Sprintf("1.5 × the TOCs + 1 MiB is %.2f MiB", 1.5*float64(tocs)/(1<<20)+1), nil
}

// tocBytes is how long the layers' tables of contents are, as they lie in the blobs.
func (b *bench) tocBytes(tag string) (sum int64, err error) {
	layers, err := b.layers(tag)
	if err != nil {
		return 0, err
	}
	for _, l := range layers {
		if at, ok := l.Annotations["io.github.containers.zstd-chunked.manifest-position"]; ok {
			n, err := strconv.ParseInt(strings.Split(at, ":")[1], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
			continue
		}
		footer := make([]byte, 51) // of eStargz: an empty gzip member whose extra field says where it begins
		if err := readBlob(b.path("image-"+tag, "blobs/sha256", l.Digest.Encoded()), footer, l.Size-51); err != nil {
			return 0, err
		}
		begin, err := strconv.ParseInt(string(footer[16:32]), 16, 64)
		if err != nil {
			return 0, err
		}
		sum += l.Size - begin
	}
	return sum, nil
}

func readBlob(name string, p []byte, off int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(p, off)
	return err
}

// neverSeen compares reading a file of the gzip image, on an empty store, with another way there.
func (b *bench) neverSeen(other func() (time.Duration, error)) (string, string, error) {
	if err := b.imageServed(); err != nil {
		return "", "", err
	}
	pairs, err := compare(*runs, func() (time.Duration, error) { return b.osReleaseFresh(b.host, imageTag) }, other)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

// curlAndGunzip fetches and inflates all layers side by side, and keeps nothing.
func (b *bench) curlAndGunzip() (time.Duration, error) {
	layers, err := b.layers(imageTag)
	if err != nil {
		return 0, err
	}
	args := []string{"-c", `for u; do curl -sS "$u" | gunzip > /dev/null & done; wait`, "sh"}
	for _, l := range layers {
		args = append(args, b.layerURL(l.Digest))
	}
	return timed(exec.CommandContext(b.ctx, "sh", args...))
}

// indexKept reads the file through a new mount on a store that has the index.
func (b *bench) indexKept() (string, string, error) {
	if err := b.indexed(); err != nil {
		return "", "", err
	}
	var took []time.Duration
	for range max(1, *runs) {
		d, err := b.osReleaseFrom(b.host, imageTag)
		if err != nil {
			return "", "", err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return fmt.Sprintf("%.1f ms", took[len(took)/2].Seconds()*1000), "", nil
}

// indexed has the store hold the gzip image's indexes and no more than making them leaves.
func (b *bench) indexed() error {
	if err := b.imageServed(); err != nil {
		return err
	}
	_, err := b.osReleaseFresh(b.host, imageTag)
	return err
}

// diskOfIndex is what the store takes after one file was read, to the layers' size.
func (b *bench) diskOfIndex() (string, string, error) {
	if err := b.indexed(); err != nil {
		return "", "", err
	}
	layers, err := b.layers(imageTag)
	if err != nil {
		return "", "", err
	}
	var size int64
	for _, l := range layers {
		size += l.Size
	}
	used, err := diskUsage(b.path("store"))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.3f", float64(used)/float64(size)), fmt.Sprintf("%.1f MB of %.1f MB", float64(used)/1e6, float64(size)/1e6), nil
}

// diskUsage is the bytes of the blocks of all files in dir.
func diskUsage(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		sum += st.Blocks * 512
		return err
	})
	return sum, err
}
