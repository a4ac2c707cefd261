package transfer_test

import (
	"bytes"
	"context"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A folder is a store without syncs.
type folder string

func (d folder) WriteBlob(_ context.Context, _ string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	dgst := digest.FromBytes(b)
	if expected != "" {
		dgst = expected.Algorithm().FromBytes(b)
	}
	if expected != "" && dgst != expected || size >= 0 && size != int64(len(b)) {
		return ocispec.Descriptor{}, iofs.ErrInvalid
	}
	return ocispec.Descriptor{Digest: dgst, Size: int64(len(b))}, os.WriteFile(filepath.Join(string(d), dgst.Encoded()), b, 0o600)
}

func (d folder) Blob(dgst digest.Digest) (*os.File, error) {
	return os.Open(filepath.Join(string(d), dgst.Encoded()))
}

func (folder) Hold(digest.Digest) (func(), error) { return func() {}, nil }

// FuzzImportArchive: whatever an archive is, there is an error or images that
// are whole, and can be exported.
func FuzzImportArchive(f *testing.F) {
	l := blobs{}
	image := l.image(f, "one")
	f.Add(testlayer.Tar(f, l.files(f, called(image, "a:1"))...))
	f.Add(testlayer.Tar(f, l.files(f, called(l.index(f, image, l.image(f, "two")), "a:1"))...))
	f.Add(testlayer.Tar(f, docker(f, `["redis:7"]`, []byte("layer"))...))
	f.Add(gzipped(f, testlayer.Tar(f, docker(f, "null", []byte("x"))[:3]...)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		s := folder(t.TempDir())
		im, err := transfer.ImportArchive(t.Context(), s, bytes.NewReader(archive), "fuzz")
		if err != nil {
			return
		}
		defer im.Release()
		if len(im.Images) == 0 {
			t.Fatal("no error, and no image")
		}
		var all []transfer.Named
		for _, one := range im.Images {
			all = append(all, transfer.Named{Name: "x:1", Desc: one.Desc})
		}
		e, err := transfer.NewExport(t.Context(), s, all...)
		if err != nil {
			t.Fatalf("what was imported is not whole: %v", err)
		}
		defer e.Release()
		if err := e.OCIArchive(t.Context(), io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
