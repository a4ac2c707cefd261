package fetch_test

import (
	"errors"
	iofs "io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/slowlink"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestUnkeptBytesAreVouchedFor: another holder of the claim stands still, so a
// chunk is served without being kept. Were its bytes wrong, the reader does not
// end right when the right ones come later.
func TestUnkeptBytesAreVouchedFor(t *testing.T) {
	t.Parallel()
	for _, lies := range []bool{true, false} {
		b := setup(t, nil, &fetch.Options{FillBelow: -1, Timeout: 3 * time.Second})
		desc, _ := b.blob(6 * mib)
		other, err := b.store.Ingest(content.Expect{Ref: "stands still", Digest: desc.Digest, Origin: b.loc.Host, Total: desc.Size})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := other.Claim(0, 1); n != 1 || err != nil {
			t.Fatalf("Claim = %d, %v", n, err)
		}
		if lies {
			b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 10, Times: 1})
		}
		o := b.object(desc)
		if n, err := o.ReadAt(ctx(t), make([]byte, 100), 0); n != 100 || err != nil {
			t.Fatalf("ReadAt of a claimed chunk = %d, %v", n, err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		err = o.Verify(ctx(t))
		if lies != errors.Is(err, syscall.EIO) || !lies && err != nil {
			t.Errorf("lies %t: Verify = %v", lies, err)
		}
	}
}

// TestCutStreamIsReadAgain: a remote without ranges is cut in a chunk that was
// not asked for.
func TestCutStreamIsReadAgain(t *testing.T) {
	b := setup(t, &testregistry.Options{NoRanges: true}, &fetch.Options{FillBelow: -1})
	desc, want := b.blob(9 * mib)
	b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.Cut, At: 5*mib + mib/2, Times: 1})
	o := b.object(desc)
	check(t, o, want, 2*mib, 10)
	if err := o.Verify(ctx(t)); err != nil {
		t.Fatal(err)
	}
	check(t, o, want, 0, desc.Size)
}

// TestSlowIsNoStall: as long as bytes come, a reader waits; here for longer than
// the timeout.
func TestSlowIsNoStall(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.shut()
	link, err := slowlink.Listen(b.reg.Host(), slowlink.Options{Bandwidth: 300_000})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	b.open(&fetch.Options{FillBelow: -1, Timeout: 3 * time.Second})
	desc, want := b.blob(mib)
	b.loc.Host = link.Addr()
	check(t, b.object(desc), want, 0, mib)
}

// TestAnotherNamespacesPasswordStays with its namespace.
func TestAnotherNamespacesPasswordStays(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	b.shut()
	config := filepath.Join(b.dir, "config.json")
	login(t, config, map[string]string{b.reg.Host() + "/secret": "u:p"})
	b.open(&fetch.Options{DockerConfig: config})
	other := locator.Locator{Host: b.loc.Host, Path: "other/app"}
	dgst := b.reg.AddBlob(other.Path, []byte("x"))
	if _, err := b.f.Stat(ctx(t), other, ocispec.Descriptor{Digest: dgst}); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("Stat = %v, want ErrPermission", err)
	}
	for _, r := range b.reg.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s/%s was sent a password", r.Method, r.Repo, r.Ref)
		}
	}
}

// TestALieAboutTheSizeHeals: a page of HTML answered the HEAD, and the registry
// is well again.
func TestALieAboutTheSizeHeals(t *testing.T) {
	b := setup(t, nil, nil)
	desc, want := b.blob(300_000)
	a := b.reg.SetFault(testregistry.Fault{Method: http.MethodHead, Act: testregistry.WrongTotal, At: 5})
	got, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
	if err != nil || got.Size == desc.Size {
		t.Fatalf("Stat = %v, %v, want a size that is wrong", got, err)
	}
	a.Release()
	heal(t, b, ocispec.Descriptor{Digest: desc.Digest}, want)
}
