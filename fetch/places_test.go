package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestUnkeptOfAStalledHost: where nothing is kept, however many reads of one
// host stand still, each ends by its own time, and another host's are served.
func TestUnkeptOfAStalledHost(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	fullDisk(t, b, 0, &fetch.Options{FillBelow: -1, Timeout: 6 * time.Second})
	healthy := testregistry.Start(t, nil)
	loc := locator.Locator{Host: healthy.Host(), Path: b.loc.Path}
	right := random(5*mib, 99)
	other := ocispec.Descriptor{Digest: healthy.AddBlob(loc.Path, right), Size: int64(len(right))}
	desc, want := b.blob(40 * mib)
	o := b.object(desc)
	check(t, o, want, 39*mib, 10)
	stall := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.StallHeaders})
	var wg sync.WaitGroup
	var ended atomic.Int64
	for i := range int64(32) {
		wg.Go(func() {
			if _, err := o.ReadAt(ctx(t), make([]byte, 10), i*mib); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ReadAt of a stalled chunk = %v", err)
			}
			ended.Add(1)
		})
	}
	for stall.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	h, err := b.f.Open(ctx(t), loc, other)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	check(t, h, right, 0, 10)
	if err := h.Verify(ctx(t)); err != nil {
		t.Error(err)
	}
	if n := stall.Hits(); n > 4 && ended.Load() == 0 { // then others follow
		t.Errorf("%d requests to the stalled host at a time", n)
	}
	wg.Wait()
}

// TestLieBesideAPass: what a reader was served while the whole was being hashed
// elsewhere is held against it too.
func TestLieBesideAPass(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: 3 * time.Second})
	desc, want := b.blob(8 * mib)
	other, err := b.store.Ingest(content.Expect{Ref: "another process", Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if n, err := other.Claim(0, 8); n != 8 || err != nil {
		t.Fatalf("Claim = %d, %v", n, err)
	}
	o := b.object(desc)
	check(t, o, want, 6*mib, 1000) // served without being kept
	stall := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.StallBody, At: 4 * mib, Times: 1})
	done := make(chan error, 1)
	go func() { done <- o.Verify(ctx(t)) }()
	for stall.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	lie := bytes.Clone(want[mib : 2*mib])
	lie[5] ^= 1 // what the registry sent the other process
	if _, err := other.WriteAt(lie, mib); err != nil {
		t.Fatal(err)
	}
	if err := other.Done(1, 1); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1000)
	_, err = o.ReadAt(ctx(t), p, mib)
	wrong := err == nil && !bytes.Equal(p, want[mib:mib+1000])
	stall.Release()
	if err := <-done; wrong && err == nil && o.Bad() == nil {
		t.Error("wrong bytes were served, and then all was well")
	}
}

// TestResumedFromARangelessLiar: what an earlier run left does not match, and is
// fetched once more while the answer that brought the rest still comes.
func TestResumedFromARangelessLiar(t *testing.T) {
	for range 4 {
		b := setup(t, &testregistry.Options{NoRanges: true}, &fetch.Options{FillBelow: 1 << 40})
		desc, want := b.blob(32 * mib)
		in, err := b.store.Ingest(content.Expect{Ref: "x", Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := in.Claim(1, 31); n != 31 || err != nil {
			t.Fatalf("Claim = %d, %v", n, err)
		}
		if _, err := in.WriteAt(make([]byte, 31*mib), mib); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(in.Done(1, 31), in.Close()); err != nil {
			t.Fatal(err)
		}
		o := b.object(desc)
		if err := o.Verify(ctx(t)); err != nil {
			t.Fatalf("Verify: %v\n%s", err, b.log)
		}
		check(t, o, want, 0, desc.Size)
		b.shut()
	}
}

// TestNotBegunAnew: who waits while what did not match is to be fetched once more
// hears why it can't be, as who comes then does.
func TestNotBegunAnew(t *testing.T) {
	b := setup(t, nil, nil)
	desc, _ := b.blob(2 * mib)
	in, err := b.store.Ingest(content.Expect{Ref: "x", Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := in.Claim(1, 1); n != 1 || err != nil {
		t.Fatalf("Claim = %d, %v", n, err)
	}
	if _, err := in.WriteAt(make([]byte, mib), mib); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Done(1, 1), in.Close()); err != nil {
		t.Fatal(err)
	}
	b.shut()
	b.open(&fetch.Options{FillBelow: -1, Log: slog.New(breaking{slog.DiscardHandler, func() {
		dir := b.dir + "/store/ingest"
		if err := errors.Join(os.Rename(dir, dir+"-was"), os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Error(err)
		}
	}})})
	if err := b.object(desc).Verify(ctx(t)); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Verify = %v, want ENOTDIR", err)
	}
}

// breaking is a log that breaks something when it is told of wrong bytes.
type breaking struct {
	slog.Handler
	now func()
}

func (breaking) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (b breaking) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "wrong bytes") {
		b.now()
	}
	return nil
}

// TestOpenNeedsAnAnswer: a manifest's word on an object opens it for nobody,
// and stands in nobody's way.
func TestOpenNeedsAnAnswer(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(300_000)
	desc.MediaType = "application/octet-stream"
	public := locator.Locator{Host: b.loc.Host, Path: "evil/public"}
	if o, err := b.f.Open(context.Background(), public, desc); err == nil {
		o.Close()
		t.Error("Open of what the repository has not got succeeded")
	}
	check(t, b.object(desc), want, 0, 1000)
}
