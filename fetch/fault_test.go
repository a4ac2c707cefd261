package fetch_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"os"
	"strings"
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

// TestFaults holds each misbehaviour against a small object that is fetched
// whole and one chunk of a large one; once the fault ends, the same read
// succeeds.
func TestFaults(t *testing.T) {
	cases := []struct {
		name  string
		fault testregistry.Fault
		heals bool  // the reader notices nothing
		err   error // else it gets this
	}{
		{"cut body", testregistry.Fault{Act: testregistry.Cut, At: 100_000, Times: 1}, true, nil},
		{"short body", testregistry.Fault{Act: testregistry.Short, At: 70_000, Times: 2}, true, nil},
		{"ranges ignored", testregistry.Fault{Act: testregistry.IgnoreRange}, true, nil},
		{"shorter range", testregistry.Fault{Act: testregistry.ShortRange, At: 200_000}, true, nil},
		{"a 500", testregistry.Fault{Act: testregistry.Status, Code: 500, Times: 1}, true, nil},
		{"a 503 that says when", testregistry.Fault{Act: testregistry.Status, Code: 503, Header: http.Header{"Retry-After": {"1"}}, Times: 1}, true, nil},
		{"404", testregistry.Fault{Act: testregistry.Status, Code: 404}, false, iofs.ErrNotExist},
		{"403", testregistry.Fault{Act: testregistry.Status, Code: 403}, false, iofs.ErrPermission},
		{"429 for an hour", testregistry.Fault{Act: testregistry.Status, Code: 429, Header: http.Header{"Retry-After": {"3600"}}}, false, syscall.EBUSY},
		{"500 for ever", testregistry.Fault{Act: testregistry.Status, Code: 500}, false, syscall.EIO},
		{"HTML", testregistry.Fault{Act: testregistry.HTML}, false, syscall.EIO},
		{"compressed", testregistry.Fault{Act: testregistry.Gzip}, false, syscall.EIO},
		{"flipped bit", testregistry.Fault{Act: testregistry.FlipBit, At: 33_333}, false, syscall.EIO},
		{"stalled head", testregistry.Fault{Act: testregistry.StallHeaders}, false, os.ErrDeadlineExceeded},
		{"stalled body", testregistry.Fault{Act: testregistry.StallBody, At: 1000}, false, os.ErrDeadlineExceeded},
	}
	ranged := []struct {
		name  string
		fault testregistry.Fault
		heals bool
		err   error
	}{
		{"no Content-Range", testregistry.Fault{Act: testregistry.NoRange}, false, syscall.EIO},
		{"senseless Content-Range", testregistry.Fault{Act: testregistry.BadRange}, false, syscall.EIO},
		{"shifted range", testregistry.Fault{Act: testregistry.ShiftRange, At: 4096}, false, syscall.EIO},
		{"another total", testregistry.Fault{Act: testregistry.WrongTotal, At: 1}, false, syscall.EIO},
	}
	for _, c := range cases {
		t.Run("small/"+c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, &fetch.Options{Timeout: 3 * time.Second})
			desc, want := b.blob(300_000)
			fault := c.fault
			fault.Method, fault.Kind = http.MethodGet, testregistry.Blob
			a := b.reg.SetFault(fault)
			o := b.object(desc)
			err := o.Verify(ctx(t))
			if c.heals != (err == nil) || c.err != nil && !errors.Is(err, c.err) {
				t.Fatalf("Verify = %v, want %v\n%s", err, c.err, b.log)
			}
			if a.Hits() == 0 {
				t.Fatal("the fault befell nothing")
			}
			a.Release()
			heal(t, b, desc, want)
		})
	}
	for _, c := range append(cases, ranged...) {
		if c.name == "flipped bit" { // of a part of a large object nobody can tell
			continue
		}
		t.Run("large/"+c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, &fetch.Options{Timeout: 3 * time.Second, FillBelow: -1})
			desc, want := b.blob(6*mib + 7)
			fault := c.fault
			fault.Method, fault.Kind = http.MethodGet, testregistry.Blob
			a := b.reg.SetFault(fault)
			p := make([]byte, 5000)
			_, err := b.object(desc).ReadAt(ctx(t), p, 3*mib+1)
			if c.heals != (err == nil) || c.err != nil && !errors.Is(err, c.err) {
				t.Fatalf("ReadAt = %v, want %v\n%s", err, c.err, b.log)
			}
			if err == nil && !bytes.Equal(p, want[3*mib+1:][:5000]) {
				t.Fatal("wrong bytes")
			}
			if a.Hits() == 0 {
				t.Fatal("the fault befell nothing")
			}
			a.Release()
			heal(t, b, desc, want)
		})
	}
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
		if time.Since(start) > 20*time.Second {
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
	b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: 5 * time.Second})
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
		b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: 2 * time.Second})
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
