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
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"distfs/internal/slowlink"
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
