package content_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// evict evicts and returns what went.
func evict(tb testing.TB, s *content.Store, opts content.EvictOptions) (went []content.Evicted) {
	tb.Helper()
	opts.Each = func(e content.Evicted) error { went = append(went, e); return nil }
	done, err := s.Evict(opts)
	if err != nil {
		tb.Fatal(err)
	}
	var freed int64
	for _, e := range went {
		freed += e.Size
	}
	if done.Count != len(went) || done.Freed != freed {
		tb.Errorf("Evict = %+v, and told of %d with %d bytes", done, len(went), freed)
	}
	return went
}

// sizeOnDisk is what s is measured to have, without evicting.
func sizeOnDisk(tb testing.TB, s *content.Store) int64 {
	tb.Helper()
	done, err := s.Evict(content.EvictOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return done.Size
}

func digestsOf(went []content.Evicted) (all []digest.Digest) {
	for _, e := range went {
		all = append(all, e.Digest)
	}
	return all
}

// plantSome puts blobs of 8 KiB into s; i was last used i hours ago.
func plantSome(tb testing.TB, s *content.Store, n int) (all []digest.Digest) {
	tb.Helper()
	for i := range n {
		all = append(all, plant(tb, s, randomBytes(uint64(100+i), 8<<10), time.Duration(i)*time.Hour))
	}
	return all
}

func TestEvict(t *testing.T) {
	tests := []struct {
		name string
		opts content.EvictOptions
		want []int // of six blobs of 8 KiB, used so many hours ago
	}{
		{"nothing asked", content.EvictOptions{}, nil},
		{"fits", content.EvictOptions{MaxSize: 48 << 10}, nil},
		{"a byte too much", content.EvictOptions{MaxSize: 48<<10 - 1}, []int{5}},
		{"half", content.EvictOptions{MaxSize: 24 << 10}, []int{5, 4, 3}},
		{"none kept", content.EvictOptions{MaxSize: -1}, []int{5, 4, 3, 2, 1, 0}},
		{"older", content.EvictOptions{OlderThan: 210 * time.Minute}, []int{5, 4}},
		{"older, and more would fit", content.EvictOptions{OlderThan: 210 * time.Minute, MaxSize: 40 << 10}, []int{5}},
		{"older, and the rest does not fit", content.EvictOptions{OlderThan: 210 * time.Minute, MaxSize: 8 << 10}, []int{5, 4}},
		{"older, though all fits", content.EvictOptions{OlderThan: 210 * time.Minute, MaxSize: 48 << 10}, nil},
		{"older, and so much free", content.EvictOptions{OlderThan: 90 * time.Minute, Free: 9 << 10}, []int{5, 4}},
		{"free", content.EvictOptions{Free: 9 << 10}, []int{5, 4}},
		{"free, and fits", content.EvictOptions{Free: 1, MaxSize: 40 << 10}, []int{5}},
		{"free more than there is", content.EvictOptions{Free: 1 << 40}, []int{5, 4, 3, 2, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			blobs := plantSome(t, s, 6)
			var want []digest.Digest
			for _, i := range tt.want {
				want = append(want, blobs[i])
			}
			tt.opts.DryRun = true
			if got := digestsOf(evict(t, s, tt.opts)); !slices.Equal(got, want) {
				t.Errorf("a dry run would evict %v, want %v", got, want)
			}
			if size := sizeOnDisk(t, s); size != 48<<10 {
				t.Errorf("after a dry run %d bytes are left", size)
			}
			tt.opts.DryRun = false
			if got := digestsOf(evict(t, s, tt.opts)); !slices.Equal(got, want) {
				t.Errorf("Evict evicted %v, want %v", got, want)
			}
			if size, want := sizeOnDisk(t, s), int64(8<<10*(6-len(want))); size != want {
				t.Errorf("%d bytes are left, want %d", size, want)
			}
			for i, dgst := range blobs {
				_, err := s.Stat(dgst)
				if gone := errors.Is(err, iofs.ErrNotExist); gone != slices.Contains(tt.want, i) {
					t.Errorf("blob %d: Stat = %v", i, err)
				}
			}
		})
	}
}

// What was opened lately stays, and who reads a blob that is evicted reads on.
func TestEvictLeastRecentlyUsed(t *testing.T) {
	s := newStore(t)
	blobs := plantSome(t, s, 3)
	f, err := s.Blob(blobs[2])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := digestsOf(evict(t, s, content.EvictOptions{MaxSize: 8 << 10}))
	if want := []digest.Digest{blobs[1], blobs[0]}; !slices.Equal(got, want) {
		t.Errorf("after a use of the oldest Evict evicted %v, want %v", got, want)
	}
	evict(t, s, content.EvictOptions{MaxSize: -1})
	wantNoBlob(t, s, blobs[2])
	if b, err := io.ReadAll(f); err != nil || !bytes.Equal(b, randomBytes(102, 8<<10)) {
		t.Errorf("reading on what was evicted: %d bytes, %v", len(b), err)
	}
}

func TestEvictSpares(t *testing.T) {
	s := newStore(t)
	blobs := plantSome(t, s, 4)
	release := hold(t, s, blobs[3])
	if err := s.Pin(blobs[2]); err != nil {
		t.Fatal(err)
	}
	writeIndex(t, s, blobs[1])
	steps := []struct {
		do   func() error
		want digest.Digest
	}{
		{func() error { return nil }, blobs[0]},
		{func() error { release(); return nil }, blobs[3]},
		{func() error { return s.Unpin(blobs[2]) }, blobs[2]},
		{func() error { writeIndex(t, s); return nil }, blobs[1]},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for _, dry := range []bool{true, false} {
			got := digestsOf(evict(t, s, content.EvictOptions{MaxSize: -1, OlderThan: 1, DryRun: dry}))
			if want := []digest.Digest{step.want}; !slices.Equal(got, want) {
				t.Errorf("Evict (dry %v) evicted %v, want %v", dry, got, want)
			}
		}
	}
}

// The parts of an object count, by what is written of them, and go when nobody has them open.
func TestEvictIngests(t *testing.T) {
	s := newStore(t)
	b := randomBytes(1, 8*mib)
	g := ingest(t, s, expect(b))
	fill(t, g, b, 0, 5)
	key := content.Expect{Ref: "a key", Total: -1}
	k := ingest(t, s, key)
	fill(t, k, b[:mib:mib], 0)
	if size := sizeOnDisk(t, s); size < 3*mib || size > 3*mib+64<<10 {
		t.Errorf("3 chunks are %d bytes on disk", size)
	}
	if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) > 0 {
		t.Errorf("Evict evicted %v, which is open", got)
	}
	if st := g.State(); st != content.Filling {
		t.Errorf("State = %v of what is open, want Filling", st)
	}
	dir, keyDir := g.IngestDir(), k.IngestDir()
	g.Close()
	k.Close()
	setUsed(t, filepath.Join(dir, "data"), time.Hour)
	setUsed(t, filepath.Join(keyDir, "data"), 2*time.Hour)
	if got := evict(t, s, content.EvictOptions{MaxSize: -1, DryRun: true}); len(got) != 2 {
		t.Errorf("a dry run would evict %v, want both", got)
	}
	got := evict(t, s, content.EvictOptions{MaxSize: -1})
	want := []content.Evicted{{Ref: "a key", Partial: true}, {Digest: digest.FromBytes(b), Ref: "example.com/a:latest", Partial: true}}
	for i := range got {
		if got[i].Size < mib || got[i].Used.IsZero() {
			t.Errorf("evicted: %+v", got[i])
		}
		got[i].Size, got[i].Used = 0, time.Time{}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Evict evicted %+v, want %+v", got, want)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
	again := ingest(t, s, expect(b))
	if again.Resumed() {
		t.Errorf("what was evicted is resumed")
	}
}

// A pinned digest keeps what is here of it, and to open an ingest is a use of it.
func TestEvictIngestsSpares(t *testing.T) {
	s := newStore(t)
	var dirs []string
	var blobs [][]byte
	for i := range 3 {
		b := randomBytes(uint64(i), 2*mib)
		g := ingest(t, s, expect(b))
		fill(t, g, b, 0)
		g.Close()
		setUsed(t, filepath.Join(g.IngestDir(), "data"), time.Duration(10-i)*time.Hour)
		dirs, blobs = append(dirs, g.IngestDir()), append(blobs, b)
	}
	if err := s.Pin(digest.FromBytes(blobs[0])); err != nil {
		t.Fatal(err)
	}
	ingest(t, s, expect(blobs[1])).Close()
	got := digestsOf(evict(t, s, content.EvictOptions{MaxSize: 2*mib + 64<<10}))
	if want := []digest.Digest{digest.FromBytes(blobs[2])}; !slices.Equal(got, want) {
		t.Errorf("Evict evicted %v, want %v", got, want)
	}
	for i, dir := range dirs {
		if _, err := os.Stat(dir); (err == nil) != (i < 2) {
			t.Errorf("ingest %d: Stat = %v", i, err)
		}
	}
}

// What isn't the store's is left alone.
func TestEvictLeavesOthers(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"blobs/README", "blobs/sha256/nodigest", "ingest/file", "blobs/sha256/" + digest.FromString("x").Encoded() + "/x", "ingest/sha256-zz.0/data"} {
		path := filepath.Join(s.Dir(), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) > 0 {
			t.Errorf("Evict evicted %v", got)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// Nobody knows what an index.json that can't be read keeps.
func TestEvictNeedsIndex(t *testing.T) {
	s := newStore(t)
	blobs := plantSome(t, s, 2)
	if err := os.WriteFile(filepath.Join(s.Dir(), "index.json"), []byte(`{"manifests":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Evict(content.EvictOptions{MaxSize: -1}); err == nil || done.Count > 0 {
		t.Errorf("Evict = %+v, %v beside half an index.json", done, err)
	}
	for _, dgst := range blobs {
		if _, err := s.Stat(dgst); err != nil {
			t.Error(err)
		}
	}
}

// Nobody knows what a manifest names that can't be opened just now, as where there are too many open files.
func TestEvictNeedsManifests(t *testing.T) {
	s := newStore(t)
	layer := plant(t, s, []byte("layer"), time.Hour)
	manifest := plant(t, s, marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{{Digest: layer}}}), 0)
	writeIndex(t, s, manifest)
	if err := os.Chmod(filepath.Join(s.Dir(), "blobs", "sha256", manifest.Encoded()), 0); err != nil {
		t.Fatal(err)
	}
	asOwner(t, func() {
		if done, err := s.Evict(content.EvictOptions{MaxSize: -1}); !errors.Is(err, iofs.ErrPermission) || done.Count > 0 {
			t.Errorf("Evict = %+v, %v beside a manifest that can't be opened", done, err)
		}
		if _, err := s.Extent(ocispec.Descriptor{Digest: manifest}); !errors.Is(err, iofs.ErrPermission) {
			t.Errorf("Extent = %v, want fs.ErrPermission", err)
		}
	})
	if _, err := s.Stat(layer); err != nil {
		t.Error(err)
	}
}

// asOwner calls f where modes hold for root too.
func asOwner(t *testing.T, f func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and not unlocked: the thread ends, with what is taken from it
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err = unix.Capget(&h, &data[0]); err != nil {
			return
		}
		data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
		if err = unix.Capset(&h, &data[0]); err == nil {
			f()
		}
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
}

// An image that enters index.json while others are evicted is spared from then on.
func TestEvictSeesNewImages(t *testing.T) {
	s := newStore(t)
	blobs := plantSome(t, s, 3)
	var went []digest.Digest
	_, err := s.Evict(content.EvictOptions{MaxSize: -1, Each: func(e content.Evicted) error {
		went = append(went, e.Digest)
		writeIndex(t, s, blobs[1])
		return nil
	}})
	if want := []digest.Digest{blobs[2], blobs[0]}; err != nil || !slices.Equal(went, want) {
		t.Errorf("Evict evicted %v, %v, want %v", went, err, want)
	}
}

func TestEvictOneAtATime(t *testing.T) {
	s := newStore(t)
	other := open(t, s.Dir())
	plantSome(t, s, 2)
	stop := errors.New("stop")
	done, err := s.Evict(content.EvictOptions{MaxSize: -1, Each: func(content.Evicted) error {
		for _, s := range []*content.Store{s, other} {
			if _, err := s.Evict(content.EvictOptions{MaxSize: -1}); !errors.Is(err, content.ErrEvicting) {
				t.Errorf("Evict beside Evict = %v, want ErrEvicting", err)
			}
		}
		return stop
	}})
	if !errors.Is(err, stop) || done.Count != 1 || done.Size != 8<<10 {
		t.Errorf("Evict = %+v, %v, want to end after the first", done, err)
	}
	if _, err := other.Evict(content.EvictOptions{MaxSize: -1}); err != nil {
		t.Errorf("Evict behind Evict = %v", err)
	}
}

// One that can't be evicted doesn't keep the others.
func TestEvictGoesOn(t *testing.T) {
	s := newStore(t)
	blobs := plantSome(t, s, 2)
	stuck := digest.SHA512.FromString("stuck")
	if err := os.WriteFile(blobPath(s, stuck), randomBytes(1, 8<<10), 0o444); err != nil {
		t.Fatal(err)
	}
	setUsed(t, blobPath(s, stuck), 24*time.Hour)
	unremovable(t, blobPath(s, stuck))
	var went []digest.Digest
	done, err := s.Evict(content.EvictOptions{MaxSize: -1, Each: func(e content.Evicted) error {
		went = append(went, e.Digest)
		return nil
	}})
	if want := []digest.Digest{blobs[1], blobs[0]}; !errors.Is(err, iofs.ErrPermission) || !slices.Equal(went, want) || done.Size != 8<<10 {
		t.Errorf("Evict = %+v, %v of %v, want fs.ErrPermission and %v", done, err, went, want)
	}
}

const fsImmutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h

// unremovable keeps path, alone in its directory, from being unlinked by this user: root needs a flag for that.
func unremovable(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		dir := filepath.Dir(path)
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(dir, 0o700) })
		return
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
		f.Close()
	})
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, fsImmutable); err != nil {
		mustRun(t, "a file system with immutable files: "+err.Error())
	}
}
