package fetch_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestManyStalledObjectsElsewhere: what stands still at one host delays no read of another's.
func TestManyStalledObjectsElsewhere(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: 20 * time.Second})
	stall := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Act: testregistry.StallHeaders})
	c, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var ended atomic.Int64
	for i := range 200 {
		desc, _ := b.blob(100_000 + i)
		o := b.object(desc)
		wg.Go(func() {
			_, _ = o.ReadAt(c, make([]byte, 10), 0)
			ended.Add(1)
		})
	}
	for stall.Hits() < 8 && ended.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	other := testregistry.Start(t, nil)
	loc := locator.Locator{Host: other.Host(), Path: b.loc.Path}
	want := random(300_000, 1)
	o, err := b.f.Open(ctx(t), loc, ocispec.Descriptor{Digest: other.AddBlob(loc.Path, want), Size: int64(len(want))})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	check(t, o, want, 0, 10)
	if n := ended.Load(); n > 0 {
		t.Errorf("%d stalled reads ended first", n)
	}
	cancel()
	wg.Wait()
}

// A trickle gives a blob's bytes slowly: about 8 MiB a second, and never none for long.
type trickle struct{ r io.Reader }

func (s trickle) Read(p []byte) (int, error) {
	time.Sleep(8 * time.Millisecond)
	return s.r.Read(p[:min(len(p), 64<<10)])
}

// slowly puts n bytes into the registry that come slowly.
func (b *bench) slowly(n int, seed uint64) (ocispec.Descriptor, []byte) {
	p := random(n, seed)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(p), Size: int64(n)}
	b.reg.AddBlobFunc(b.loc.Path, desc.Digest, desc.Size, func(off int64) io.Reader { return trickle{bytes.NewReader(p[off:])} })
	return desc, p
}

// TestConnections: a large object that comes slowly is fetched by several
// connections, four at most. A host has eight, one of them for reads that somebody
// waits for.
func TestConnections(t *testing.T) {
	b := setup(t, nil, nil)
	alone, _ := b.slowly(48*mib, 9)
	if err := b.object(alone).Verify(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if n := b.reg.Peak(alone.Digest.String()); n != 4 {
		t.Errorf("an object alone had %d connections, want 4", n)
	}
	var wg sync.WaitGroup
	var list []ocispec.Descriptor
	for i := range 3 {
		desc, _ := b.slowly(48*mib, uint64(i))
		list = append(list, desc)
		o := b.object(desc)
		wg.Go(func() {
			if err := o.Verify(ctx(t)); err != nil {
				t.Error(err)
			}
		})
	}
	b.reg.Wait(t, func([]testregistry.Request) bool { return b.reg.Peak("") >= 7 })
	wanted, want := b.slowly(20*mib, 10)
	check(t, b.object(wanted), want, 18*mib+5, 10)
	here := int64(0)
	for _, p := range b.f.Active() {
		here += p.Here
	}
	if here == 3*48*mib {
		t.Errorf("a read came when %d bytes of what nobody waits for were here", here)
	}
	wg.Wait()
	for i, desc := range append(list, alone) {
		if n := b.reg.Peak(desc.Digest.String()); n > 4 {
			t.Errorf("object %d had %d connections, want at most 4", i, n)
		}
		if got := b.reg.Sent(desc.Digest); got != desc.Size {
			t.Errorf("object %d: sent %d bytes of %d", i, got, desc.Size)
		}
	}
	if n := b.reg.Peak(""); n > 8 {
		t.Errorf("the host had %d connections, want at most 8", n)
	}
}

// TestFarReadGoesAhead of the rest of an object, which is coming slowly by all
// the connections that it may have.
func TestFarReadGoesAhead(t *testing.T) {
	b := setup(t, nil, nil)
	desc, want := b.slowly(60*mib, 1)
	o := b.object(desc)
	done := make(chan error, 1)
	go func() { done <- o.Verify(ctx(t)) }()
	b.reg.Wait(t, func([]testregistry.Request) bool { return b.reg.Peak(desc.Digest.String()) >= 3 })
	check(t, o, want, 59*mib+5, 10)
	if _, p := state(t, b.f); p.Here == desc.Size {
		t.Errorf("it came when %d bytes of %d were here", p.Here, desc.Size)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	check(t, o, want, 0, desc.Size)
}
