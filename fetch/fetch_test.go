package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if runAsProcess() {
		return
	}
	goleak.VerifyTestMain(m)
}

const mib = 1 << 20

// A bench is a registry, a store and a fetcher between them.
type bench struct {
	t     *testing.T
	reg   *testregistry.Registry
	dir   string
	store *content.Store
	f     *fetch.Fetcher
	log   *lockedBuffer
	loc   locator.Locator
	hosts locator.Hosts // nil for most
}

// setup starts a registry with ropts and a fetcher with fopts, whose timeout is
// short where it has none.
func setup(t *testing.T, ropts *testregistry.Options, fopts *fetch.Options) *bench {
	t.Helper()
	b := &bench{t: t, reg: testregistry.Start(t, ropts), dir: t.TempDir(), log: &lockedBuffer{}}
	b.loc = locator.Locator{Host: b.reg.Host(), Path: "library/redis"}
	b.open(fopts)
	return b
}

// open opens the store and a fetcher; both are closed at the test's end.
func (b *bench) open(fopts *fetch.Options) {
	b.t.Helper()
	opts := fetch.Options{}
	if fopts != nil {
		opts = *fopts
	}
	if opts.DockerConfig == "" {
		opts.DockerConfig = b.dir + "/none.json"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(b.log, nil))
	}
	store, err := content.Open(b.dir + "/store")
	if err != nil {
		b.t.Fatal(err)
	}
	b.store, b.f = store, fetch.New(store, b.hosts, &opts)
	b.t.Cleanup(func() { b.shut() })
}

// shut closes both. However a connection ended, it was given back once.
func (b *bench) shut() {
	b.f.Close()
	if n := fetch.Unreleased(b.f); n != [2]int{} {
		b.t.Errorf("after Close the limits have %d connections that move, and that stand still", n)
	}
	b.store.Close()
}

// blob puts n pseudo-random bytes into the registry.
func (b *bench) blob(n int) (ocispec.Descriptor, []byte) {
	b.t.Helper()
	p := random(n, uint64(n))
	return ocispec.Descriptor{Digest: b.reg.AddBlob(b.loc.Path, p), Size: int64(n)}, p
}

func random(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p)
	return p
}

func (b *bench) object(desc ocispec.Descriptor) *fetch.Object {
	b.t.Helper()
	o, err := b.f.Open(ctx(b.t), b.loc, desc)
	if err != nil {
		b.t.Fatalf("Open(%s): %v", desc.Digest, err)
	}
	b.t.Cleanup(func() { o.Close() })
	return o
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return c
}

func check(t *testing.T, o *fetch.Object, want []byte, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	got, err := o.ReadAt(ctx(t), p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt(%d, %d): %v", off, n, err)
	}
	if w := want[off:min(off+n, int64(len(want)))]; !bytes.Equal(p[:got], w) {
		t.Fatalf("ReadAt(%d, %d) = %d bytes that differ from the %d wanted", off, n, got, len(w))
	}
}

// lockedBuffer is a bytes.Buffer for a logger and its reader.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSmallObjectIsFetchedWholeAtOpen(t *testing.T) {
	b := setup(t, nil, nil)
	desc, want := b.blob(3*mib + 17)
	o := b.object(desc)
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	check(t, o, want, 0, int64(len(want)))
	check(t, o, want, int64(len(want))-5, 10)
	if got := b.reg.Sent(desc.Digest); got != desc.Size {
		t.Errorf("sent %d bytes, want %d", got, desc.Size)
	}
	if o.File() == nil {
		t.Error("File() = nil after Commit")
	}
	if got, ok := b.f.Known(b.loc, desc.Digest); !ok || got.Size != desc.Size {
		t.Errorf("Known = %v, %v, want the size %d on record", got, ok, desc.Size)
	}
}

func TestOpenAloneFetchesASmallObject(t *testing.T) {
	b := setup(t, nil, nil)
	desc, _ := b.blob(3 * mib)
	o, err := b.f.Open(ctx(t), b.loc, desc)
	if err != nil {
		t.Fatal(err)
	}
	o.Close() // the fetch goes on without its reader
	b.reg.Wait(t, func(rs []testregistry.Request) bool {
		return len(rs) > 0 && rs[len(rs)-1].Kind == testregistry.Blob && rs[len(rs)-1].Done
	})
	if err := b.object(desc).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.reg.Sent(desc.Digest); got != desc.Size {
		t.Errorf("sent %d bytes of %d", got, desc.Size)
	}
}

func TestFarReadIsOneChunk(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(40*mib + 3)
	o := b.object(desc)
	check(t, o, want, 20*mib+5, 4096)
	if got := b.reg.Sent(desc.Digest); got != mib {
		t.Errorf("sent %d bytes, want the chunk's %d", got, mib)
	}
	if got := b.reg.Count("", ""); got != 2 { // HTTPS was tried, and is no request
		t.Logf("requests: %v", b.reg.Requests())
	}
	check(t, o, want, 40*mib, 3)
	if got := b.reg.Sent(desc.Digest); got != mib+3 {
		t.Errorf("sent %d bytes, want %d", got, mib+3)
	}
}

func TestSequenceNeedsFewRequests(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	s := testregistry.Synthetic{Seed: 1, Size: 200 * mib}
	desc := ocispec.Descriptor{Digest: b.reg.AddSynthetic(b.loc.Path, s), Size: s.Size}
	o := b.object(desc)
	p, want := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < s.Size; off += mib {
		if _, err := o.ReadAt(ctx(t), p, off); err != nil {
			t.Fatal(err)
		}
		s.ReadAt(want, off)
		if !bytes.Equal(p, want) {
			t.Fatalf("wrong bytes at %d", off)
		}
	}
	if err := o.Verify(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.reg.Sent(desc.Digest); got != s.Size {
		t.Errorf("sent %d bytes, want %d", got, s.Size)
	}
	// However slow the machine is, a request is of four chunks, but for the first ones.
	if got := len(b.reg.Ranges(desc.Digest)); got > 60 {
		t.Errorf("%d requests: %v", got, b.reg.Ranges(desc.Digest))
	}
}

func TestManyReadersOneFetch(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(16 * mib)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			o, err := b.f.Open(t.Context(), b.loc, desc)
			if err != nil {
				t.Error(err)
				return
			}
			defer o.Close()
			rng := rand.New(rand.NewPCG(uint64(i), 0))
			p := make([]byte, 64<<10)
			for range 20 {
				off := rng.Int64N(desc.Size - int64(len(p)))
				if _, err := o.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
					t.Errorf("ReadAt(%d): %v, or wrong bytes", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := b.reg.Sent(desc.Digest); got > desc.Size {
		t.Errorf("sent %d bytes of %d", got, desc.Size)
	}
}

func TestNothingThatArrivedIsFetchedAgain(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(12 * mib)
	o := b.object(desc)
	check(t, o, want, 3*mib, 2*mib)
	check(t, o, want, 9*mib, 100)
	b.shut()
	before := b.reg.Sent(desc.Digest)
	b.open(&fetch.Options{FillBelow: -1})
	o = b.object(desc)
	check(t, o, want, 3*mib, 2*mib)
	check(t, o, want, 9*mib, 100)
	if got := b.reg.Sent(desc.Digest); got != before {
		t.Errorf("sent %d bytes again", got-before)
	}
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.reg.Sent(desc.Digest); got != desc.Size {
		t.Errorf("sent %d bytes in all, want %d", got, desc.Size)
	}
}

func TestOffline(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	whole, want := b.blob(mib)
	part, wantPart := b.blob(8 * mib)
	absent, _ := b.blob(5)
	if err := b.object(whole).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	check(t, b.object(part), wantPart, 2*mib, 10)
	b.shut()
	b.reg.Forget()
	b.open(&fetch.Options{Offline: true})
	check(t, b.object(whole), want, 0, mib)
	o := b.object(part)
	check(t, o, wantPart, 2*mib, 10)
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("ReadAt of an absent range = %v, want ENETUNREACH", err)
	}
	if _, err := b.f.Open(ctx(t), b.loc, absent); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Open of what is not here = %v, want ErrNotExist", err)
	}
	if got := b.reg.Count("", ""); got != 0 {
		t.Errorf("%d requests", got)
	}
}

func TestEmptyObjectNeedsNoBytes(t *testing.T) {
	b := setup(t, nil, nil)
	dgst := b.reg.AddBlob(b.loc.Path, nil)
	o := b.object(ocispec.Descriptor{Digest: dgst})
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if n, err := o.ReadAt(ctx(t), make([]byte, 1), 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt = %d, %v, want 0, EOF", n, err)
	}
	if got := b.reg.Count(http.MethodGet, testregistry.Blob); got != 0 {
		t.Errorf("%d GETs of nothing", got)
	}
}

func TestStatAsksBlobsThenManifests(t *testing.T) {
	b := setup(t, &testregistry.Options{Distribution2: true}, nil)
	layer, _ := b.blob(1000)
	m := []byte(`{"schemaVersion":2}`)
	dgst := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)

	got, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: layer.Digest})
	if err != nil || got.Size != 1000 {
		t.Errorf("Stat(layer) = %v, %v", got, err)
	}
	got, err = b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: dgst})
	if err != nil || got.Size != int64(len(m)) || got.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("Stat(manifest) = %v, %v", got, err)
	}
	got, err = b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
	if err != nil || got.Digest != dgst {
		t.Errorf("Resolve(7) = %v, %v", got, err)
	}
	b.reg.Forget()
	if _, err = b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: layer.Digest}); err != nil || b.reg.Count("", "") != 0 {
		t.Errorf("second Stat: %v, %d requests, want none", err, b.reg.Count("", ""))
	}
	_, err = b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: digest.FromString("nothing")})
	if !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Stat(unknown) = %v, want ErrNotExist", err)
	}
}

// TestAnothersBlobNeedsAnAnswer: what one repository sent, all of it or a part, no
// other one serves that has not answered for it, with the network or without.
func TestAnothersBlobNeedsAnAnswer(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	whole, _ := b.blob(100)
	if err := b.object(whole).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	part, want := b.blob(9 * mib)
	check(t, b.object(part), want, 2*mib, 10)
	refused := func() {
		t.Helper()
		for _, other := range []locator.Locator{{Host: b.loc.Host, Path: "public/app"}, {Host: b.loc.Host, Path: b.loc.Path + "/deeper"}} {
			for _, desc := range []ocispec.Descriptor{whole, part, {Digest: whole.Digest}, {Digest: part.Digest}} {
				if _, err := b.f.Open(ctx(t), other, desc); !errors.Is(err, iofs.ErrNotExist) {
					t.Errorf("Open(%s, %d bytes) under a repository that has it not = %v, want ErrNotExist", other, desc.Size, err)
				}
			}
		}
	}
	refused()
	b.shut()
	b.reg.Forget()
	b.open(&fetch.Options{Offline: true})
	refused()
	if n := b.reg.Count("", ""); n > 0 {
		t.Errorf("offline there were %d requests", n)
	}
}
