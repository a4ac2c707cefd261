package fetch_test

import (
	"errors"
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
