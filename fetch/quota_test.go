package fetch_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// onDisk is what the store has, in bytes.
func (b *bench) onDisk() int64 {
	b.t.Helper()
	done, err := b.store.Evict(content.EvictOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return done.Size
}

// readWhole reads all of desc and closes it when it is in the store.
func (b *bench) readWhole(desc ocispec.Descriptor, want []byte) {
	b.t.Helper()
	o, err := b.f.Open(ctx(b.t), b.loc, desc)
	if err != nil {
		b.t.Fatal(err)
	}
	defer o.Close()
	check(b.t, o, want, 0, int64(len(want)))
	if err := o.Commit(ctx(b.t)); err != nil {
		b.t.Fatal(err)
	}
}

// some are n blobs of so many bytes.
func (b *bench) some(n, size int) (descs []ocispec.Descriptor, all [][]byte) {
	for i := range n {
		p := random(size, uint64(1000+i))
		descs = append(descs, ocispec.Descriptor{Digest: b.reg.AddBlob(b.loc.Path, p), Size: int64(size)})
		all = append(all, p)
	}
	return descs, all
}

// Twenty objects of 2 MiB come into a store of 10 MiB, and all are read.
func TestMaxSize(t *testing.T) {
	b := setup(t, nil, &fetch.Options{MaxSize: 10 * mib})
	descs, want := b.some(20, 2*mib)
	for i := range descs {
		b.readWhole(descs[i], want[i])
	}
	b.f.Close() // waits for who evicts
	if size := b.onDisk(); size > 12*mib || size < 6*mib {
		t.Errorf("the store has %d bytes, want about 10 MiB", size)
	}
	if _, err := b.store.Stat(descs[19].Digest); err != nil {
		t.Errorf("the last object isn't there: %v", err)
	}
	if strings.Contains(b.log.String(), "without being kept") {
		t.Errorf("log: %s", b.log)
	}
}

// What is larger than the store may be is read all the same: the rest is served without being kept, which is one line.
func TestLargerThanMaxSize(t *testing.T) {
	b := setup(t, nil, &fetch.Options{MaxSize: 8 * mib, FillBelow: -1})
	desc, want := b.blob(24 * mib)
	o := b.object(desc)
	for off := int64(0); off < 20*mib; off += 256 << 10 {
		p := make([]byte, 256<<10)
		if _, err := o.ReadAt(ctx(t), p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
			t.Fatalf("ReadAt(%d) = %v, or other bytes", off, err)
		}
	}
	if size := b.onDisk(); size > 14*mib {
		t.Errorf("the store has %d bytes, want about 8 MiB", size)
	}
	if n := strings.Count(b.log.String(), "served without being kept"); n != 1 {
		t.Errorf("%d lines on what isn't kept, want 1: %s", n, b.log)
	}
}

// On a full disk what was not used for long makes room, where a size is set.
func TestFullDiskMakesRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	for _, maxSize := range []int64{0, 1 << 40} {
		t.Run(fmt.Sprintf("max-size %d", maxSize), func(t *testing.T) {
			b := &bench{t: t, reg: testregistry.Start(t, nil), dir: t.TempDir(), log: &lockedBuffer{}}
			b.loc.Host, b.loc.Path = b.reg.Host(), "library/redis"
			if err := unix.Mount("distfs-test", b.dir, "tmpfs", 0, "size=20m"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(b.dir, unix.MNT_DETACH); err != nil { // a pull that failed may have its files open still
					t.Error(err)
				}
			})
			b.open(&fetch.Options{MaxSize: maxSize})
			descs, want := b.some(3, 8*mib)
			for i := range 2 {
				b.readWhole(descs[i], want[i])
			}
			o := b.object(descs[2])
			err := o.Commit(ctx(t))
			if (err == nil) != (maxSize > 0) {
				t.Errorf("Commit on a full disk = %v", err)
			}
			if there := b.there(descs[0].Digest); there != (maxSize == 0) {
				t.Errorf("the object that was used first is there: %v", there)
			}
			o.Close()
		})
	}
}

func (b *bench) there(dgst digest.Digest) bool {
	_, err := b.store.Stat(dgst)
	return err == nil
}
