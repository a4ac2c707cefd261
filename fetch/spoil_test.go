package fetch_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"distfs/internal/testregistry"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A blob that was found bad is bad to who has it open; the next Open fetches it, and that one is left alone.
func TestSpoil(t *testing.T) {
	b := setup(t, nil, nil)
	dgst := b.reg.AddSynthetic("library/redis", testregistry.Synthetic{Seed: 1, Size: 3*mib + 5})
	desc := ocispec.Descriptor{Digest: dgst, Size: 3*mib + 5}
	open := func() (bad, commit error) {
		obj, err := b.f.Open(t.Context(), b.loc, desc)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { obj.Close() })
		if err := obj.Commit(t.Context()); err != nil {
			return obj.Bad(), err
		}
		path := filepath.Join(b.store.Dir(), "blobs", "sha256", dgst.Encoded())
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, make([]byte, desc.Size), 0o600)); err != nil {
			t.Fatal(err)
		}
		b.f.Spoil(dgst) // which is still the store's, and so taken for right
		if obj.Bad() != nil {
			t.Errorf("Bad = %v though the file is the store's", obj.Bad())
		}
		if _, err := b.store.CheckBlob(t.Context(), dgst); !errors.Is(err, syscall.EIO) {
			t.Fatalf("CheckBlob = %v, want a mismatch", err)
		}
		b.f.Spoil(dgst)
		if _, err := obj.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
			t.Errorf("ReadAt of what is bad = %v, want EIO", err)
		}
		return obj.Bad(), nil
	}
	for range 2 {
		if bad, err := open(); err != nil || !errors.Is(bad, syscall.EIO) {
			t.Errorf("Bad = %v, want EIO; Commit = %v", bad, err)
		}
	}
	obj, err := b.f.Open(t.Context(), b.loc, desc)
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	if err := obj.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.f.Spoil(dgst)
	if err := obj.Bad(); err != nil {
		t.Errorf("Bad = %v of what came since", err)
	}
	if _, err := b.store.CheckBlob(t.Context(), dgst); err != nil {
		t.Errorf("CheckBlob = %v", err)
	}
}

// Who opens an object of which wrong bytes came begins anew, however soon that is, and though another has it open still.
func TestOpenAfterWrongBytes(t *testing.T) {
	b := setup(t, nil, nil)
	for i := range 50 {
		b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 10, Times: 1})
		p := random(1000, uint64(i))
		o, err := b.f.Open(t.Context(), b.loc, ocispec.Descriptor{Digest: b.reg.AddBlob(b.loc.Path, p), Size: 1000})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if err := o.Verify(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Verify of wrong bytes = %v, want EIO", err)
		}
		next, err := b.f.Open(t.Context(), b.loc, o.Descriptor())
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		if err := next.Verify(t.Context()); err != nil {
			t.Fatalf("Verify by who opened it next, the %dth: %v", i, err)
		}
	}
}
