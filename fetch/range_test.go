package fetch_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rangeOf reads n bytes of desc from off on, which are to be as in want.
func (b *bench) rangeOf(desc ocispec.Descriptor, want []byte, off, n int64) {
	b.t.Helper()
	p := make([]byte, n)
	got, err := b.f.Range(ctx(b.t), b.loc, desc, p, off)
	left := want[min(off, int64(len(want))):]
	if short := n > int64(len(left)); short != (err == io.EOF) || !short && err != nil { //nolint:errorlint // as io.ReaderAt has it
		b.t.Fatalf("Range(%d, %d) = %d, %v", off, n, got, err)
	}
	if !bytes.Equal(p[:got], left[:min(n, int64(len(left)))]) {
		b.t.Fatalf("Range(%d, %d) = %d bytes that differ", off, n, got)
	}
}

func (b *bench) wantRequests(heads, gets int) {
	b.t.Helper()
	if h, g := b.reg.Count(http.MethodHead, ""), b.reg.Count(http.MethodGet, testregistry.Blob); h != heads || g != gets {
		b.t.Errorf("%d HEADs and %d GETs, want %d and %d", h, g, heads, gets)
	}
}

// A range is one GET, of which nothing is kept but that the repository answered.
func TestRange(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(5 * mib)
	b.rangeOf(desc, want, 4*mib+100, 1000)
	b.wantRequests(0, 1)
	if got := b.reg.Ranges(desc.Digest); len(got) != 1 || got[0] != "bytes=4194404-4195403" {
		t.Errorf("it asked for %v", got)
	}
	if names, err := filepath.Glob(filepath.Join(b.store.Dir(), "ingest/*")); err != nil || len(names) > 0 {
		t.Errorf("there is %v, %v", names, err)
	}
	o := b.object(desc)
	b.wantRequests(0, 1)
	b.rangeOf(desc, want, 0, 10) // though it is open
	b.wantRequests(0, 2)
	check(t, o, want, 2*mib+5, 10)
	b.wantRequests(0, 3)
	b.rangeOf(desc, want, 2*mib+500, 1000)
	b.wantRequests(0, 3)
	b.rangeOf(desc, want, 3*mib-500, 1000) // of which the half is here
	b.wantRequests(0, 4)
	o.Close()
	b.rangeOf(desc, want, 2*mib+500, 1000)
	b.wantRequests(0, 4)
	if err := b.object(desc).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	b.reg.Forget()
	b.rangeOf(desc, want, 0, desc.Size)
	b.rangeOf(desc, want, 5*mib-10, 20)
	b.rangeOf(desc, want, 6*mib, 20)
	b.wantRequests(0, 0)
	if _, err := b.f.Range(ctx(t), b.loc, desc, make([]byte, 1), -1); !errors.Is(err, iofs.ErrInvalid) {
		t.Errorf("Range(-1) = %v", err)
	}
}

func TestRangeOfUnknownSize(t *testing.T) {
	b := setup(t, nil, nil)
	desc, want := b.blob(2 * mib)
	b.rangeOf(ocispec.Descriptor{Digest: desc.Digest}, want, mib, 100)
	b.wantRequests(1, 1)
}

// What another repository sent, whole or in part, is read only where this one answers too.
func TestRangeNeedsAnAnswer(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	whole, want := b.blob(100)
	if err := b.object(whole).Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	part, wantPart := b.blob(9 * mib)
	check(t, b.object(part), wantPart, 2*mib, 10)
	other := locator.Locator{Host: b.loc.Host, Path: "public/app"}
	for _, desc := range []ocispec.Descriptor{whole, part} {
		if n, err := b.f.Range(ctx(t), other, desc, make([]byte, 10), desc.Size/4); n > 0 || !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Range under a repository that has it not = %d, %v, want ErrNotExist", n, err)
		}
		if _, ok := b.f.Known(other, desc.Digest); ok {
			t.Error("it counts as having answered")
		}
	}
	b.loc = other
	b.reg.AddBlob(other.Path, want)
	b.reg.AddBlob(other.Path, wantPart)
	b.reg.Forget()
	for range 2 {
		b.rangeOf(whole, want, 10, 20)
		b.rangeOf(part, wantPart, 2*mib+50, 20)
		b.wantRequests(0, 2)
	}
}

func TestRangeOffline(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(5 * mib)
	absent, _ := b.blob(300)
	check(t, b.object(desc), want, mib, 10)
	b.shut()
	b.reg.Forget()
	b.open(&fetch.Options{Offline: true})
	b.rangeOf(desc, want, mib+100, 100)
	if _, err := b.f.Range(ctx(t), b.loc, desc, make([]byte, 1), 3*mib); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Range of what is not here = %v, want ENETUNREACH", err)
	}
	if _, err := b.f.Range(ctx(t), b.loc, absent, make([]byte, 1), 0); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Range of what was not asked for = %v, want ErrNotExist", err)
	}
	b.wantRequests(0, 0)
}

// Answers that are cut or refused for a moment are gone on from; one that contradicts what is known is no answer.
func TestRangeOfABadRegistry(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault testregistry.Fault
		gets  int
		err   error
	}{
		{"unavailable", testregistry.Fault{Act: testregistry.Status, Code: 503, Times: 1}, 2, nil},
		{"cut", testregistry.Fault{Act: testregistry.Cut, At: 1000, Times: 1}, 2, nil},
		{"short", testregistry.Fault{Act: testregistry.ShortRange, At: 1000, Times: 1}, 2, nil},
		{"whole", testregistry.Fault{Act: testregistry.IgnoreRange}, 2, nil},
		{"another size", testregistry.Fault{Act: testregistry.WrongTotal, At: 1}, 1, syscall.EIO},
		{"another range", testregistry.Fault{Act: testregistry.ShiftRange, At: 1}, 1, syscall.EIO},
		{"forbidden", testregistry.Fault{Act: testregistry.Status, Code: 403}, 1, iofs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, nil, &fetch.Options{FillBelow: -1})
			desc, want := b.blob(3 * mib)
			c.fault.Method = http.MethodGet
			b.reg.SetFault(c.fault)
			if c.err == nil {
				b.rangeOf(desc, want, 2*mib, 300_000)
			} else if _, err := b.f.Range(ctx(t), b.loc, desc, make([]byte, 100), 2*mib); !errors.Is(err, c.err) {
				t.Errorf("Range = %v, want %v", err, c.err)
			}
			if _, known := b.f.Known(b.loc, desc.Digest); known != (c.err == nil) {
				t.Errorf("Known = %v", known)
			}
			b.wantRequests(0, c.gets)
		})
	}
	b := setup(t, nil, nil)
	if _, err := b.f.Range(ctx(t), b.loc, ocispec.Descriptor{Digest: digest.FromString("?"), Size: 100}, make([]byte, 1), 0); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Range of nothing = %v, want ErrNotExist", err)
	}
}
