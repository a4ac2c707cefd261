package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"distfs/fetch"
	"distfs/internal/slowlink"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestManyStalledObjects: 48 objects of a host stand still, and a healthy one of
// it is read before any of them is given up.
func TestManyStalledObjects(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: time.Hour})
	stuck := make(map[string]bool)
	var list []ocispec.Descriptor
	for i := range 48 {
		desc, _ := b.blob(100_000 + i)
		list = append(list, desc)
		stuck[desc.Digest.String()] = true
	}
	healthy, want := b.blob(300_000)
	stall := b.reg.SetFault(testregistry.Fault{
		Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.StallHeaders,
		Match: func(r *testregistry.Request) bool { return stuck[r.Ref] },
	})
	c, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var ended atomic.Int64
	for _, desc := range list {
		o := b.object(desc)
		wg.Go(func() {
			_, _ = o.ReadAt(c, make([]byte, 10), 0)
			ended.Add(1)
		})
	}
	for stall.Hits() < len(list) && ended.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	check(t, b.object(healthy), want, 0, 10)
	if n := ended.Load(); n > 0 {
		t.Errorf("%d stalled reads ended first", n)
	}
	cancel()
	wg.Wait()
}

// far has b speak to the registry over a long line, after an answer told how long
// it is, and returns what the log at level debug tells of an object of n bytes
// that is fetched then.
func (b *bench) far(link slowlink.Options, n int) (story []string) {
	b.t.Helper()
	b.shut()
	l, err := slowlink.Listen(b.reg.Host(), link)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	small, _ := b.blob(100)
	large, _ := b.blob(n)
	b.open(&fetch.Options{Bulk: true, Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	b.loc.Host = l.Addr()
	for _, desc := range []ocispec.Descriptor{small, large} {
		if err := b.object(desc).Commit(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
	for line := range strings.Lines(b.log.String()) {
		if _, rest, ok := strings.Cut(line, "msg="); ok && strings.Contains(rest, large.Digest.String()) {
			what, _, _ := strings.Cut(rest, " ")
			story = append(story, what)
		}
	}
	return story
}

// TestFarHost: where an answer is long in coming several ranges are asked for
// before the first bytes tell how fast a connection is.
func TestFarHost(t *testing.T) {
	b := setup(t, nil, nil)
	story := b.far(slowlink.Options{RTT: 300 * time.Millisecond}, 32*mib)
	claims := 0
	for _, what := range story {
		if what == "chunk" {
			break
		}
		if what == "claim" {
			claims++
		}
	}
	if claims != 4 {
		t.Errorf("%d ranges were asked for before a chunk was there, want 4: %q", claims, story)
	}
}

// TestFarHostIsNoSlowOne: what a connection waits for an answer does not make the
// next ranges short.
func TestFarHostIsNoSlowOne(t *testing.T) {
	b := setup(t, nil, nil)
	story := b.far(slowlink.Options{RTT: 500 * time.Millisecond, Bandwidth: 8_000_000}, 96*mib)
	claims := 0
	for _, what := range story {
		if what == "claim" {
			claims++
		}
	}
	if claims > 16 {
		t.Errorf("96 chunks were fetched by %d ranges, want 16 at most: %q", claims, story)
	}
}

// TestHostHoldsLastBytes: a host over a long line that sends all but the last byte
// of each answer does not have ever more connections, and each reader is told.
func TestHostHoldsLastBytes(t *testing.T) {
	b := setup(t, nil, nil)
	l, err := slowlink.Listen(b.reg.Host(), slowlink.Options{RTT: 20 * time.Millisecond, Bandwidth: 40_000_000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.shut()
	var conns counted
	b.open(&fetch.Options{FillBelow: -1, Timeout: 5 * time.Second, Dial: conns.dial})
	b.loc.Host = l.Addr()
	before, want := b.blob(16 * mib)
	check(t, b.object(before), want, 0, before.Size) // tells how long the line is, and how wide
	const reads = 96
	desc := ocispec.Descriptor{Digest: digest.FromString("never whole"), Size: reads * 2 * mib}
	b.reg.AddBlobFunc(b.loc.Path, desc.Digest, desc.Size, func(int64) io.Reader { return zeros{} })
	o := b.object(desc)
	a := b.reg.SetFault(testregistry.Fault{
		Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.StallBody, At: mib - 1, // of a chunk, however often it is asked for
	})
	var wg sync.WaitGroup
	for i := range reads {
		wg.Go(func() {
			if err := o.Wait(ctx(t), int64(i*2*mib), mib); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Wait = %v, want ErrDeadlineExceeded", err)
			}
		})
	}
	wg.Wait()
	if n := conns.most.Load(); n > 64 {
		t.Errorf("%d connections at a time, want 64 at most", n)
	}
	a.Release()
	for off := int64(0); off < desc.Size; off += 64 * mib { // each is asked for again
		for start := time.Now(); ; {
			err := o.Wait(ctx(t), off, 2*mib)
			if err == nil {
				break
			}
			if time.Since(start) > time.Minute {
				t.Fatal(err)
			}
		}
	}
}

// TestBusyHost: who gets no connection waits for one as long as the others of the
// host make progress; so does what goes on without a reader.
func TestBusyHost(t *testing.T) {
	b := setup(t, nil, nil)
	l, err := slowlink.Listen(b.reg.Host(), slowlink.Options{Bandwidth: 400_000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.shut()
	b.open(&fetch.Options{FillBelow: 1000, TakeWord: true, Timeout: 2 * time.Second})
	b.loc.Host = l.Addr()
	var wg sync.WaitGroup
	read := func(n int) {
		desc, want := b.blob(n)
		o := b.object(desc)
		wg.Go(func() {
			got := make([]byte, n)
			if _, err := o.ReadAt(ctx(t), got, 0); err != nil || !bytes.Equal(got, want) {
				t.Errorf("ReadAt of %d bytes: %v", n, err)
			}
		})
	}
	for i := range 8 {
		read(2*mib + i)
	}
	b.reg.Wait(t, func(list []testregistry.Request) bool { return len(list) >= 8 })
	read(100_000)
	left, _ := b.blob(900)
	b.object(left).Close()
	wg.Wait()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := b.store.Stat(left.Digest); err == nil {
			break
		} else if time.Since(start) > 10*time.Second {
			t.Fatalf("what was opened and closed is not here when the host has time for it: %v", err)
		}
	}
}

// TestPausedAreBounded: who comes back from a pause opens no connection beyond those
// that a host may have, whether they move or not.
func TestPausedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fetch.NewLimits()
		for n := range 64 {
			if !l.Acquire("host") {
				t.Fatalf("Acquire = false with %d connections", n)
			}
			l.Stall("host")
		}
		var back atomic.Bool
		go func() {
			l.Regain(t.Context(), "host")
			back.Store(true)
		}()
		synctest.Wait()
		if back.Load() {
			t.Error("Regain has a 65th connection")
		}
		l.ReleaseStalled("host")
		synctest.Wait()
		if !back.Load() {
			t.Error("Regain waits with 63 connections")
		}
	})
}

// counted are connections, and the most that were open at a time.
type counted struct{ now, most atomic.Int64 }

func (c *counted) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	n := c.now.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); {
		most = c.most.Load()
	}
	return &countedConn{conn, sync.OnceFunc(func() { c.now.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
