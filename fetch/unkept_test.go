package fetch_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// The bytes of an ingest's lock file that are not claims: see package content.
const (
	ownByte       = 1 << 62
	structureByte = ownByte + 1
)

// stand has another process stand still with the lock on n bytes from first on
// of an ingest's lock file, until the function that it returns is called.
func stand(t *testing.T, b *bench, desc ocispec.Descriptor, first, n int64) (goOn func()) {
	t.Helper()
	in, err := b.store.Ingest(content.Expect{Ref: "x", Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(b.store.Dir(), "locks", "sha256-"+desc.Digest.Encoded()+".*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("lock files: %v, %v", names, err)
	}
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: first, Len: n}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func() { f.Close() }
}

// TestAnotherStandsStill: whatever another process holds while it stands still,
// readers have all of the object, verified; when it has gone the object is kept.
func TestAnotherStandsStill(t *testing.T) {
	for _, c := range []struct {
		name     string
		size     int
		first, n int64
	}{
		{"on the claim of a small object", 300_000, 0, 1},
		{"on a claim in the end of a large one", 6*mib + 9, 6, 1},
		{"on a claim in its middle", 6*mib + 9, 2, 2},
		{"on the right to hash", 6*mib + 9, ownByte, 1},
		{"on the right to hash a small object", 300_000, ownByte, 1},
		{"on the structure", 6*mib + 9, structureByte, 1},
		{"on the structure of a small object", 300_000, structureByte, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, &fetch.Options{Timeout: 3 * time.Second})
			desc, want := b.blob(c.size)
			goOn := stand(t, b, desc, c.first, c.n)
			o := b.object(desc)
			check(t, o, want, 0, 1000)
			if err := o.Verify(ctx(t)); err != nil {
				t.Fatalf("Verify: %v\n%s", err, b.log)
			}
			check(t, o, want, 0, desc.Size)
			goOn()
			heal(t, b, desc, want)
			if err := b.object(desc).Commit(ctx(t)); err != nil {
				t.Errorf("Commit: %v", err)
			}
		})
	}
}

// TestAnotherStandsStillElsewhere: a process that stands still with one object
// delays no reader of another one.
func TestAnotherStandsStillElsewhere(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: time.Hour})
	stuck, _ := b.blob(300_000)
	desc, want := b.blob(300_001)
	goOn := stand(t, b, stuck, structureByte, 1)
	o := b.object(stuck)
	done := make(chan error, 1)
	go func() { done <- o.Verify(ctx(t)) }()
	check(t, b.object(desc), want, 0, desc.Size)
	select {
	case err := <-done:
		t.Errorf("Verify = %v, and the other one stands still", err)
	default:
	}
	goOn()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// fullDisk puts the store of b on a file system that has room for free bytes.
func fullDisk(t *testing.T, b *bench, free int64, fopts *fetch.Options) {
	t.Helper()
	b.shut()
	dir := filepath.Join(b.dir, "store")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mounting a tmpfs: %v", err)
		}
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		b.shut()
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b.open(fopts)
	err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 16*mib-free), 0o600)
	if err != nil && (free > 0 || !errors.Is(err, syscall.ENOSPC)) {
		t.Fatal(err)
	}
}

// TestFullDisk: on a full disk readers have all of the object, verified, and
// each byte is sent once. Commit says that it is not kept. With room again it
// is.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		free int64
	}{
		{"small", 300_000, 100_000},
		{"large", 9*mib + 5, 3 * mib},
		{"not even a name", 5 * mib, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, nil, nil)
			fullDisk(t, b, c.free, &fetch.Options{FillBelow: -1})
			desc, want := b.blob(c.size)
			o := b.object(desc)
			for at := int64(0); at < desc.Size; at += 300_000 {
				check(t, o, want, at, min(300_000, desc.Size-at))
			}
			if err := o.Verify(ctx(t)); err != nil {
				t.Fatalf("Verify: %v\n%s", err, b.log)
			}
			check(t, o, want, desc.Size-1000, 1000)
			if err := o.Commit(ctx(t)); !errors.Is(err, fetch.ErrNotKept) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Commit = %v, want ErrNotKept, ENOSPC", err)
			}
			// What had begun to come when the disk was found full comes again.
			if got := b.reg.Sent(desc.Digest); got > desc.Size+4*mib {
				t.Errorf("sent %d bytes of an object of %d: %v", got, desc.Size, b.reg.Ranges(desc.Digest))
			}
			if n := strings.Count(b.log.String(), "served without being kept"); n != 1 {
				t.Errorf("the log says so %d times:\n%s", n, b.log)
			}
			o.Close()
			if err := os.Remove(filepath.Join(b.store.Dir(), "ballast")); err != nil {
				t.Fatal(err)
			}
			b.shut()
			b.open(nil)
			heal(t, b, desc, want)
			if err := b.object(desc).Commit(ctx(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFullDiskAndALie: what is served without being kept is held against the
// digest all the same.
func TestFullDiskAndALie(t *testing.T) {
	b := setup(t, nil, nil)
	fullDisk(t, b, 0, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(7 * mib)
	a := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 5*mib + 1})
	o := b.object(desc)
	check(t, o, want, 0, 1000)
	if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Verify = %v, want EIO", err)
	}
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.EIO) || o.Bad() == nil {
		t.Errorf("ReadAt = %v, Bad = %v", err, o.Bad())
	}
	a.Release()
	heal(t, b, desc, want)
}

// TestFullDiskAndAChange: after the digest matched, other bytes are refused
// before they are served, and before that when they contradict what was shown.
func TestFullDiskAndAChange(t *testing.T) {
	for _, verified := range []bool{true, false} {
		b := setup(t, nil, nil)
		fullDisk(t, b, 0, &fetch.Options{FillBelow: -1})
		desc, want := b.blob(40 * mib)
		o := b.object(desc)
		check(t, o, want, 100, 1000)
		if verified {
			if err := o.Verify(ctx(t)); err != nil {
				t.Fatal(err)
			}
		}
		for c := range int64(20) { // none of the first chunk is in memory any more
			check(t, o, want, (c+10)*mib, 10)
		}
		b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 105})
		p := make([]byte, 1000)
		if _, err := o.ReadAt(ctx(t), p, 100); !errors.Is(err, syscall.EIO) {
			t.Errorf("verified %t: ReadAt of what changed = %v, same %t", verified, err, bytes.Equal(p, want[100:1100]))
		}
		b.shut()
	}
}

// TestStreamOnFullDisk: what a layer decodes to says where the disk is full, and leaves
// nothing there when it is given up; what fits is read by the next Fetcher.
func TestStreamOnFullDisk(t *testing.T) {
	b := setup(t, nil, nil)
	fullDisk(t, b, 3*mib, nil)
	key, piece := digest.FromString("key"), bytes.Repeat([]byte("piece"), mib/5)
	free := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(b.store.Dir(), &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	before := free()
	st, err := b.f.NewStream(key)
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(0); err == nil && i < 16; i++ {
		_, err = st.WriteAt(piece, i*10*mib)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteAt = %v, want ENOSPC", err)
	}
	if got := make([]byte, len(piece)); !readsAll(st, got, 0) || !bytes.Equal(got, piece) {
		t.Error("what was written before is not what it was")
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if after := free(); after+mib/2 < before { // directories take some
		t.Errorf("%d bytes are free, %d were before", after, before)
	}
	if st, err = b.f.NewStream(key); err != nil {
		t.Fatal(err)
	}
	if _, err = st.WriteAt(piece, 10*mib); err == nil {
		err = st.Commit()
	}
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	b.shut()
	b.open(&fetch.Options{Offline: true})
	whole, err := b.f.Stream(key)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if got := make([]byte, len(piece)); !readsAll(whole, got, 10*mib) || !bytes.Equal(got, piece) {
		t.Error("what was kept is not what was written")
	}
}

func readsAll(r io.ReaderAt, b []byte, off int64) bool {
	n, _ := r.ReadAt(b, off)
	return n == len(b)
}
