package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A layerReader is a file in a layer.
type layerReader struct {
	b      []byte
	err    error                           // of every read
	before func(ctx context.Context) error // of every read; nil is nothing
	reads  atomic.Int64
	bytes  atomic.Int64
}

func (l *layerReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	l.reads.Add(1)
	if l.before != nil {
		if err := l.before(ctx); err != nil {
			return 0, err
		}
	}
	if l.err != nil {
		return 0, l.err
	}
	n := copy(p, l.b[min(off, int64(len(l.b))):])
	l.bytes.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

var layers = []digest.Digest{digest.FromString("layer 0"), digest.FromString("layer 1")}

// file opens the file of layer n whose content is b.
func (b *bench) file(n int, want []byte, src fetch.Reader) *fetch.Object {
	b.t.Helper()
	desc := ocispec.Descriptor{Digest: digest.FromBytes(want), Size: int64(len(want))}
	o, err := b.f.OpenFile(ctx(b.t), b.loc, layers[n], desc, src)
	if err != nil {
		b.t.Fatalf("OpenFile: %v", err)
	}
	b.t.Cleanup(func() { o.Close() })
	return o
}

// wantKept checks that the file is kept, and as nothing else.
func (b *bench) wantKept(want []byte) {
	b.t.Helper()
	f, err := b.store.File(digest.FromBytes(want))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || digest.FromBytes(got) != digest.FromBytes(want) {
		b.t.Errorf("other bytes are kept, %d of them, %v", len(got), err)
	}
	if b.there(digest.FromBytes(want)) {
		b.t.Error("there is a blob of it")
	}
	for _, pattern := range []string{"ingest/*", "repos/*"} {
		if names, err := filepath.Glob(filepath.Join(b.store.Dir(), pattern)); err != nil || len(names) > 0 {
			b.t.Errorf("there is %v, %v", names, err)
		}
	}
	if n := b.reg.Count("", ""); n > 0 {
		b.t.Errorf("%d requests", n)
	}
}

// A small file is read once by all who have it open, and kept; then no layer is asked for it.
func TestSmallFile(t *testing.T) {
	for _, size := range []int{0, 1, 5000, mib} {
		b := setup(t, nil, nil)
		want := random(size, 7)
		src := &layerReader{b: want}
		objects := make([]*fetch.Object, 20)
		for i := range objects {
			objects[i] = b.file(0, want, src)
			if objects[i].File() != nil {
				t.Fatal("it is there before anybody read it")
			}
		}
		var wg sync.WaitGroup
		for _, o := range objects {
			wg.Go(func() { check(t, o, want, int64(size)/3, int64(size)) })
		}
		wg.Wait()
		o := b.file(0, want, src)
		if err := errors.Join(o.Verify(ctx(t)), o.Commit(ctx(t))); err != nil {
			t.Fatal(err)
		}
		if o.File() == nil || o.Size() > 0 && o.Data(0, 1) == nil || !o.Here(0, o.Size()) {
			t.Error("it is not there when it is committed")
		}
		other := &layerReader{err: errors.New("it is asked")}
		o = b.file(1, want, other)
		if o.File() == nil {
			t.Error("it is not there for another layer")
		}
		check(t, o, want, 0, int64(size))
		if src.reads.Load() != 1 || src.bytes.Load() != int64(size) {
			t.Errorf("%d reads of %d bytes in all, want one of %d", src.reads.Load(), src.bytes.Load(), size)
		}
		b.wantKept(want)
	}
}

// A large file is filled by chunks, and is kept and shared when it is whole.
func TestLargeFile(t *testing.T) {
	b := setup(t, nil, nil)
	want := random(9*mib+5, 8)
	src := &layerReader{b: want}
	o := b.file(0, want, src)
	check(t, o, want, 5*mib+9, 100)
	if got := src.bytes.Load(); got != mib {
		t.Errorf("%d bytes were read for a chunk", got)
	}
	apart := &layerReader{b: want}
	check(t, b.file(1, want, apart), want, 5*mib+9, 100)
	if got := apart.bytes.Load(); got != mib {
		t.Errorf("%d bytes were read from another layer, whose bytes are not those of the first before they match", got)
	}
	for off := int64(0); off < int64(len(want)); off += mib / 4 {
		check(t, o, want, off, mib/4)
	}
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if got := src.bytes.Load(); got != int64(len(want)) || o.File() == nil {
		t.Errorf("%d bytes were read, want each of %d once; its file is %v", got, len(want), o.File())
	}
	late := b.file(1, want, apart)
	if err := late.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	check(t, late, want, 0, int64(len(want)))
	if got := apart.bytes.Load(); got > int64(len(want)) {
		t.Errorf("%d bytes were read from the other layer", got)
	}
	b.wantKept(want)
	if n := len(b.f.Active()); n > 0 {
		t.Errorf("%d objects are under way: a layer's files are not fetched", n)
	}
}

// What has another digest is EIO to who has it open; who opens it next has it read anew.
func TestWrongFile(t *testing.T) {
	for _, size := range []int{5000, 3 * mib} {
		b := setup(t, nil, nil)
		want := random(size, 9)
		src := &layerReader{b: random(size, 10)}
		o := b.file(0, want, src)
		if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
			t.Errorf("Verify = %v, want EIO", err)
		}
		if _, err := o.ReadAt(ctx(t), make([]byte, 1), 0); !errors.Is(err, syscall.EIO) || !errors.Is(o.Bad(), syscall.EIO) {
			t.Errorf("ReadAt = %v, Bad = %v, want EIO", err, o.Bad())
		}
		src.b = want
		for o = b.file(0, want, src); o.Bad() != nil; o = b.file(0, want, src) {
			o.Close() // until it is given up by whoever does that
		}
		if err := o.Commit(ctx(t)); err != nil {
			t.Fatal(err)
		}
		check(t, o, want, 0, int64(size))
		b.wantKept(want)
	}
}

// Files that are opened, by one or by several, and closed leave no descriptor behind.
func TestClosedFilesAreClosed(t *testing.T) {
	b := setup(t, nil, nil)
	want := random(5000, 30)
	if err := b.store.KeepFile(digest.FromBytes(want), want); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for range 100 {
		desc := ocispec.Descriptor{Digest: digest.FromBytes(want), Size: 5000}
		var open [2]*fetch.Object
		for i := range open {
			var err error
			if open[i], err = b.f.OpenFile(ctx(t), b.loc, layers[0], desc, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range open {
			o.Close()
		}
		if _, err := b.f.OpenFile(ctx(t), b.loc, layers[1], ocispec.Descriptor{Digest: desc.Digest, Size: 4999}, nil); !errors.Is(err, syscall.EIO) {
			t.Fatalf("OpenFile of another size = %v, want EIO", err)
		}
	}
	b.f.Close() // waits for who closes
	if n := descriptors(t) - before; n > 5 {
		t.Errorf("%d descriptors are left open", n)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// An error of the layer is the reader's at once, of its kind, and says nothing of the file.
func TestFileOfALayerThatCannotBeRead(t *testing.T) {
	for _, size := range []int{5000, 3 * mib} {
		for _, kind := range []error{syscall.ENETUNREACH, syscall.EIO, iofs.ErrNotExist, os.ErrDeadlineExceeded, io.ErrUnexpectedEOF} {
			b := setup(t, nil, nil)
			want := random(size, 9)
			src := &layerReader{b: want, err: fmt.Errorf("layer: %w", kind)}
			o := b.file(0, want, src)
			if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, kind) || errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("ReadAt = %v, want %v", err, kind)
			}
			if got := src.reads.Load(); got > 2 || o.Bad() != nil {
				t.Errorf("%v: %d reads, Bad = %v", kind, got, o.Bad())
			}
		}
	}
	b := setup(t, nil, nil)
	want := random(5000, 9)
	short := b.file(0, want, &layerReader{b: want[:4999]})
	if err := short.Verify(ctx(t)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Verify of what is too short there = %v", err)
	}
}

// Who leaves leaves the reading to who waits with him, or to the next.
func TestSmallFileWhoseReaderLeaves(t *testing.T) {
	b := setup(t, nil, nil)
	want := random(5000, 11)
	started := make(chan struct{}, 1)
	src := &layerReader{b: want}
	src.before = func(ctx context.Context) error {
		if src.reads.Load() > 1 {
			return nil
		}
		started <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	first, leave := context.WithCancel(t.Context())
	o, second := b.file(0, want, src), b.file(0, want, src)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := o.Wait(first, 0, 10); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait of who left = %v", err)
		}
	})
	<-started
	wg.Go(func() { check(t, second, want, 0, 5000) })
	leave()
	wg.Wait()
	b.wantKept(want)
}

// A layer that takes longer than the timeout sees to itself that it does not stand still.
func TestFileOfASlowLayer(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: 100 * time.Millisecond})
	want := random(2*mib, 12)
	src := &layerReader{b: want, before: func(ctx context.Context) error {
		select {
		case <-time.After(400 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	check(t, b.file(0, want, src), want, 0, 100)
}

// A file is there offline if its layer is.
func TestFileOffline(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Offline: true})
	for _, size := range []int{5000, 3 * mib} {
		want := random(size, 13)
		o := b.file(0, want, &layerReader{b: want})
		if err := o.Commit(ctx(t)); err != nil {
			t.Fatal(err)
		}
		b.wantKept(want)
	}
}

// A blob is a file's content only for who was sent it.
func TestFileThatIsABlob(t *testing.T) {
	b := setup(t, nil, nil)
	desc, want := b.blob(5000)
	if err := b.object(desc).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	src := &layerReader{err: iofs.ErrNotExist}
	check(t, b.file(0, want, src), want, 0, 5000)
	b.loc.Path = "library/another"
	if _, err := b.file(1, want, src).ReadAt(ctx(t), make([]byte, 1), 0); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("ReadAt under a repository that did not answer for the blob = %v, want its layer's error", err)
	}
}

// On a full disk files are served all the same, and each read is held against the digest.
func TestFilesOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	b := setup(t, nil, nil)
	b.shut()
	if err := unix.Mount("distfs-test", b.dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(b.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b.open(nil)
	fillUp(t, filepath.Join(b.dir, "full"))
	for _, size := range []int{5000, mib, 6 * mib} {
		want := random(size, uint64(14+size))
		src := &layerReader{b: want}
		o := b.file(0, want, src)
		check(t, o, want, 0, int64(size))
		if err := o.Verify(ctx(t)); err != nil {
			t.Errorf("Verify = %v", err)
		}
		if err := o.Commit(ctx(t)); !errors.Is(err, fetch.ErrNotKept) {
			t.Errorf("Commit = %v, want ErrNotKept", err)
		}
		check(t, o, want, 0, int64(size))
		if o.File() != nil {
			t.Error("it is kept")
		}
	}
	wrong := random(5000, 20)
	if err := b.file(0, random(5000, 21), &layerReader{b: wrong}).Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Verify of wrong bytes = %v, want EIO", err)
	}
}

// Nor is a small file kept where the store is as large as it may be; one that is wrong is found out all the same. Then
// what is read again is held against the hash, for few stay in memory.
func TestFilesOfAFullStore(t *testing.T) {
	b := setup(t, nil, &fetch.Options{MaxSize: mib})
	desc, blob := b.blob(2 * mib)
	if err := b.store.Pin(desc.Digest); err != nil {
		t.Fatal(err)
	}
	b.readWhole(desc, blob)
	var objects []*fetch.Object
	var sources []*layerReader
	var all [][]byte
	for i := range 20 {
		all = append(all, random(5000, uint64(40+i)))
		sources = append(sources, &layerReader{b: all[i]})
		objects = append(objects, b.file(0, all[i], sources[i]))
		check(t, objects[i], all[i], 0, 5000)
		if objects[i].File() != nil {
			t.Fatalf("file %d is kept", i)
		}
	}
	check(t, objects[19], all[19], 0, 5000)
	if got := sources[19].reads.Load(); got != 1 {
		t.Errorf("%d reads of what is in memory", got)
	}
	sources[0].b = random(5000, 99)
	if _, err := objects[0].ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.EIO) || sources[0].reads.Load() != 2 {
		t.Errorf("ReadAt of what is another now = %v after %d reads, want EIO", err, sources[0].reads.Load())
	}
	if err := b.file(0, random(5000, 98), sources[1]).Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Verify of wrong bytes = %v, want EIO", err)
	}
}

// fillUp takes all of a disk.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

func BenchmarkOpenKeptFile(b *testing.B) {
	store, err := content.Open(b.TempDir() + "/store")
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	f := fetch.New(store, nil, nil)
	defer f.Close()
	p := random(16<<10, 1)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(p), Size: int64(len(p))}
	if err := store.KeepFile(desc.Digest, p); err != nil {
		b.Fatal(err)
	}
	loc := (&bench{}).loc
	loc.Host, loc.Path = "localhost:1", "a"
	for b.Loop() {
		o, err := f.OpenFile(b.Context(), loc, layers[0], desc, nil)
		if err != nil || o.File() == nil {
			b.Fatal(err, "or not there")
		}
		o.Close()
	}
}
