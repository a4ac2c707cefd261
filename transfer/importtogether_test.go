package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"distfs/content"
	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A contended store tells when a blob was refused, for another import writes it,
// or has each blob wait for others.
type contended struct {
	transfer.ArchiveStore
	refused func()
	reading func() // as it writes a blob, and has the key
}

func (s *contended) WriteBlob(ctx context.Context, key string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	if s.reading != nil {
		r = io.MultiReader(atRead(s.reading), r)
	}
	desc, err := s.ArchiveStore.WriteBlob(ctx, key, r, size, expected)
	if errors.Is(err, syscall.EBUSY) && s.refused != nil {
		s.refused()
	}
	return desc, err
}

// An atRead is a reader of nothing.
type atRead func()

func (f atRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// TestImportTogether imports archives several times at once: what another is
// writing is waited for.
func TestImportTogether(t *testing.T) {
	l := blobs{}
	image := l.image(t, "one")
	for name, archive := range map[string][]byte{
		"oci":    testlayer.Tar(t, l.files(t, called(image, "a:1"))...),
		"docker": testlayer.Tar(t, docker(t, `["a:1"]`, []byte("layer"))...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			var refused, reading sync.WaitGroup
			refused.Add(3)
			reading.Add(1)
			done := make(chan error)
			start := func(c *contended) {
				s, err := content.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				c.ArchiveStore = s
				go func() {
					im, err := transfer.ImportArchive(t.Context(), c, io.MultiReader(bytes.NewReader(archive)), "test")
					if err == nil {
						holds(t, s, im)
						im.Release()
					}
					done <- err
				}()
			}
			first := sync.OnceFunc(func() { reading.Done(); refused.Wait() })
			start(&contended{reading: first})
			reading.Wait()
			for range 3 {
				start(&contended{refused: sync.OnceFunc(refused.Done)})
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A stuck store has somebody write under each key that was not made up.
type stuck struct {
	folder
	keys map[string]int
}

func (s stuck) WriteBlob(ctx context.Context, key string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	s.keys[key]++
	if strings.HasSuffix(key, "bytes)") {
		return ocispec.Descriptor{}, fmt.Errorf("ingest: %w", syscall.EBUSY)
	}
	return s.folder.WriteBlob(ctx, key, r, size, expected)
}

// TestImportStuck: who never ends what it writes is not waited for, and whoever
// waits can be interrupted.
func TestImportStuck(t *testing.T) {
	l := blobs{}
	image := l.image(t, "one")
	archive := testlayer.Tar(t, l.files(t, called(image, "a:1"))...)
	dir := folder(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		s := stuck{dir, map[string]int{}}
		im, err := transfer.ImportArchive(t.Context(), s, bytes.NewReader(archive), "test")
		if err != nil {
			t.Fatal(err)
		}
		im.Release()
		if len(s.keys) != 2*len(l) {
			t.Errorf("it wrote under %d keys, want two for each of %d blobs", len(s.keys), len(l))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := transfer.ImportArchive(ctx, stuck{folder(t.TempDir()), map[string]int{}}, bytes.NewReader(archive), "test"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("import = %v, want context.DeadlineExceeded", err)
		}
	})
}

// A late store gets a blob from elsewhere when it is about to be written.
type late struct {
	folder
	blob []byte
}

func (s late) WriteBlob(ctx context.Context, key string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	if expected == digest.FromBytes(s.blob) {
		r = bytes.NewReader(s.blob)
	}
	return s.folder.WriteBlob(ctx, key, r, size, expected)
}

// TestImportLate: that another brings a blob just now is no reason either to take
// an archive's word that it has it.
func TestImportLate(t *testing.T) {
	l := blobs{}
	blob := []byte("what a private repository has")
	one := l.index(t, l.add("application/x", blob))
	files := l.files(t, called(one, "a:1"))
	evil := slices.Clone(files)
	for i, f := range evil {
		if f.Content == string(blob) {
			evil[i].Content = strings.Repeat("x", len(blob))
		}
	}
	if _, err := importArchive(t, late{folder(t.TempDir()), blob}, testlayer.Tar(t, files...)); err != nil {
		t.Error(err)
	}
	if im, err := importArchive(t, late{folder(t.TempDir()), blob}, testlayer.Tar(t, evil...)); err == nil {
		t.Errorf("imported %+v", im.Images)
	}
}

// A forgetful store evicts what is not held as soon as it is written.
type forgetful struct{ folder }

func (s forgetful) Hold(dgst digest.Digest) (func(), error) {
	return func() {}, os.Remove(filepath.Join(string(s.folder), dgst.Encoded()))
}

// TestImportEvicted: what is gone before it was held is not said to be there.
func TestImportEvicted(t *testing.T) {
	s := forgetful{folder(t.TempDir())}
	if im, err := importArchive(t, s, testlayer.Tar(t, docker(t, `["a:1"]`, []byte("layer"))...)); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("import = %+v, %v, want fs.ErrNotExist", im, err)
	}
}
