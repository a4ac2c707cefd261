package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

// ended are opts with a timeout that ends what f holds up. What nothing holds up
// has the usual one: a machine that is busy may take its time.
func ended(f testregistry.Fault, timeout time.Duration, opts fetch.Options) *fetch.Options {
	if f.Act == testregistry.StallHeaders || f.Act == testregistry.StallBody {
		opts.Timeout = timeout
	}
	return &opts
}

// heal reads all of an object whose fault has ended, as soon as that is
// noticed: failures are remembered for a second.
func heal(t *testing.T, b *bench, desc ocispec.Descriptor, want []byte) {
	t.Helper()
	for start := time.Now(); ; {
		o, err := b.f.Open(ctx(t), b.loc, desc)
		if err == nil {
			err = o.Verify(ctx(t))
		}
		if err == nil {
			check(t, o, want, 0, int64(len(want)))
			o.Close()
			return
		}
		if o != nil {
			o.Close()
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the fault ended, and still: %v", err)
		}
	}
}

// TestAskingIsRetried: what befalls a HEAD for a moment nobody notices.
func TestAskingIsRetried(t *testing.T) {
	for _, fault := range []testregistry.Fault{
		{Act: testregistry.Status, Code: 429, Header: http.Header{"Retry-After": {"1"}}, Times: 1},
		{Act: testregistry.Status, Code: 503, Times: 3},
		{Act: testregistry.Cut, Times: 1},
	} {
		b := setup(t, nil, nil)
		desc, _ := b.blob(100)
		a := b.reg.SetFault(fault)
		got, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
		if err != nil || got.Size != desc.Size || a.Hits() == 0 {
			t.Errorf("%d: Stat = %v, %v after %d faults", fault.Code, got, err, a.Hits())
		}
	}
}

func TestWrongBytesAreThrownAway(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	good := random(5*mib, 1)
	bad := bytes.Clone(good)
	bad[2*mib] ^= 1
	dgst := digest.FromBytes(good)
	b.reg.AddBlobFunc(b.loc.Path, dgst, int64(len(bad)), func(off int64) io.Reader { return bytes.NewReader(bad[off:]) })
	o := b.object(ocispec.Descriptor{Digest: dgst, Size: int64(len(bad))})
	check(t, o, bad, 0, 100) // nobody can tell yet
	if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Verify = %v, want EIO", err)
	}
	if _, err := o.ReadAt(ctx(t), make([]byte, 1), 0); !errors.Is(err, syscall.EIO) || o.Bad() == nil {
		t.Errorf("ReadAt after the mismatch = %v, Bad = %v, want EIO", err, o.Bad())
	}
	if !strings.Contains(b.log.String(), b.reg.Host()) {
		t.Errorf("the log does not name the source:\n%s", b.log)
	}
	if _, err := b.store.Stat(dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Stat = %v, want ErrNotExist", err)
	}
	b.reg.AddBlobFunc(b.loc.Path, dgst, int64(len(good)), func(off int64) io.Reader { return bytes.NewReader(good[off:]) })
	heal(t, b, ocispec.Descriptor{Digest: dgst, Size: int64(len(good))}, good)
}

// TestAnotherOriginsBlob: a host's reader who has seen wrong bytes does not end
// right because another host sent the right ones; one who has seen right bytes
// goes on.
func TestAnotherOriginsBlob(t *testing.T) {
	for _, lies := range []bool{true, false} {
		b := setup(t, nil, &fetch.Options{FillBelow: -1})
		good := random(5*mib, 2)
		dgst := digest.FromBytes(good)
		sent := bytes.Clone(good)
		if lies {
			sent[100] ^= 1
		}
		b.reg.AddBlobFunc(b.loc.Path, dgst, int64(len(sent)), func(off int64) io.Reader { return bytes.NewReader(sent[off:]) })
		desc := ocispec.Descriptor{Digest: dgst, Size: int64(len(good))}
		o := b.object(desc)
		check(t, o, sent, 0, 1000)

		honest := testregistry.Start(t, nil)
		honest.AddBlob(b.loc.Path, good)
		other, err := b.f.Open(ctx(t), locator.Locator{Host: honest.Host(), Path: b.loc.Path}, desc)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := other.Commit(ctx(t)); err != nil {
			t.Fatal(err)
		}
		err = o.Verify(ctx(t))
		if lies != errors.Is(err, syscall.EIO) || !lies && err != nil {
			t.Errorf("lies %t: Verify = %v", lies, err)
		}
		if !lies {
			check(t, o, good, 0, int64(len(good)))
		}
	}
}

// TestDeadRegistry: an error in bounded time, and the same read works once the
// registry is back.
func TestDeadRegistry(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(3 * mib)
	o := b.object(desc)
	b.reg.Stop()
	if _, err := o.ReadAt(ctx(t), make([]byte, 10), 0); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("ReadAt = %v, want EHOSTUNREACH", err)
	}
	b.reg.Restart()
	heal(t, b, desc, want)
}

// TestAgainstReference reads at random under random faults that end by
// themselves: right bytes or an error, nothing else, and at last all of it,
// each byte sent once where nothing was cut.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := setup(t, nil, &fetch.Options{FillBelow: -1})
		defer b.shut()
		desc, want := b.blob(rapid.IntRange(1, 9*mib).Draw(rt, "size"))
		o := b.object(desc)
		defer o.Close()
		acts := []testregistry.Act{testregistry.Cut, testregistry.Short, testregistry.Status, testregistry.IgnoreRange, testregistry.ShortRange, testregistry.BadRange}
		for range rapid.IntRange(0, 4).Draw(rt, "faults") {
			b.reg.SetFault(testregistry.Fault{
				Method: http.MethodGet, Kind: testregistry.Blob,
				Act: rapid.SampledFrom(acts).Draw(rt, "act"), At: rapid.Int64Range(1, 2*mib).Draw(rt, "at"), Code: 503,
				Skip: rapid.IntRange(0, 5).Draw(rt, "skip"), Times: rapid.IntRange(1, 3).Draw(rt, "times"),
			})
		}
		for range rapid.IntRange(1, 12).Draw(rt, "reads") {
			off := rapid.Int64Range(0, desc.Size-1).Draw(rt, "off")
			n := min(rapid.Int64Range(1, 3*mib).Draw(rt, "n"), desc.Size-off)
			p := make([]byte, n)
			if _, err := o.ReadAt(ctx(t), p, off); err == nil && !bytes.Equal(p, want[off:off+n]) {
				rt.Fatalf("ReadAt(%d, %d): wrong bytes", off, n)
			}
		}
		b.reg.ClearFaults()
		heal(t, b, desc, want)
	})
}

// TestBulkIsPatient: who fetches all, and nobody reads, goes on when the registry
// comes back after more than a moment.
func TestBulkIsPatient(t *testing.T) {
	var dials atomic.Int64
	again := make(chan struct{})
	b := setup(t, nil, &fetch.Options{Bulk: true, TakeWord: true, FillBelow: math.MaxInt64, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil && dials.Add(1) == 10 { // four attempts of two have failed
			close(again)
		}
		return conn, err
	}})
	desc, want := b.blob(3 * mib)
	b.reg.Stop()
	o := b.object(desc)
	<-again
	b.reg.Restart()
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	check(t, o, want, 0, int64(len(want)))
}

// TestCompressedManifest: a tag's digest is never that of what a proxy made of the manifest.
func TestCompressedManifest(t *testing.T) {
	b := setup(t, &testregistry.Options{NoDigestHeader: true}, nil)
	b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Manifest, Act: testregistry.Gzip})
	if desc, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"}); !errors.Is(err, syscall.EIO) {
		t.Errorf("Resolve of a tag whose manifest comes compressed = %v, %v, want EIO", desc, err)
	}
}

// TestCutReaderIsPatient: who was reading when the registry went, goes on when it
// is back, after more attempts than another reader would make.
func TestCutReaderIsPatient(t *testing.T) {
	var dials atomic.Int64
	again := make(chan struct{})
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil && dials.Add(1) == 6 { // attempts
			close(again)
		}
		return conn, err
	}})
	desc, want := b.blob(8 * mib)
	o := b.object(desc)
	check(t, o, want, 0, 100) // tells that the host speaks HTTP: an attempt is one dial
	before := b.f.Stats().Origin
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Method: http.MethodGet, Act: testregistry.StallBody, At: mib / 2, Times: 1})
	read := make(chan error, 1)
	go func() { // of one chunk: there is no second connection, which nothing has come by yet
		got := make([]byte, mib)
		_, err := o.ReadAt(ctx(t), got, 2*mib)
		if err == nil && !bytes.Equal(got, want[2*mib:3*mib]) {
			err = errors.New("wrong bytes")
		}
		read <- err
	}()
	poll(t, "half of the chunk", func() bool { return b.f.Stats().Origin >= before+mib/2 })
	b.reg.Stop()
	select {
	case <-again:
	case err := <-read:
		t.Fatalf("the read ended after %d attempts: %v", dials.Load(), err)
	}
	b.reg.Restart()
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestDialTimesOut: to who was reading, and to who fetches all, a connection that
// is not made in its time is no end of trying.
func TestDialTimesOut(t *testing.T) {
	for _, opts := range []fetch.Options{{FillBelow: -1}, {FillBelow: math.MaxInt64, Bulk: true}} {
		var lost atomic.Int64 // dials that time out
		opts.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if lost.Add(-1) >= 0 {
				return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		b := setup(t, nil, &opts)
		desc, want := b.blob(8 * mib)
		b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Method: http.MethodGet, Act: testregistry.Cut, At: mib + 5, Times: 1, Match: func(*testregistry.Request) bool {
			lost.Store(4)
			return true
		}})
		check(t, b.object(desc), want, 0, desc.Size)
	}
}
