package content

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

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// CreateLayout opens the layout in dir, and makes one where there is nothing or an empty directory. It refuses a directory that
// holds something else, and a store: other programs' ways of writing are not for it.
func CreateLayout(dir string) (*Layout, error) {
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, bare(err))
	}
	l, err := openLayout(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	if err = l.begin(); err == nil {
		err = l.check()
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("layout %s: %w", dir, bare(err))
	}
	return l, nil
}

// begin makes a layout of an empty directory.
func (l *Layout) begin() error {
	if _, err := l.root.Lstat(versionFile); err == nil {
		return errors.New("it is a store of distfs: import into it")
	}
	dir, err := l.openDir(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxBegun)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !begun(e.Name()) }) {
		return nil
	}
	return replaceIn(dir, ocispec.ImageLayoutFile, 0o644, bytesInto([]byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)))
}

// maxBegun is how many entries of a directory are looked at, to see whether it is empty.
const maxBegun = 1000

// begun says whether something of that name is in a layout that somebody has only begun to make.
func begun(name string) bool {
	return name == ocispec.ImageBlobsDir || name == "lost+found" || isAside(name)
}

// openDir opens a directory, and nothing else: a fifo must not hang it.
func (l *Layout) openDir(name string) (*os.File, error) {
	return l.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// Into returns what writes into l, and gives name, if it is not "", to what was written last.
func (l *Layout) Into(name string) *LayoutWriter { return &LayoutWriter{l, name} }

// A LayoutWriter writes an image into a layout, blobs first.
type LayoutWriter struct {
	*Layout
	name string
}

// PutManifest writes a manifest or index, whose bytes are b.
func (w *LayoutWriter) PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	_, err := w.Upload(ctx, desc, bytes.NewReader(b), func(int64) {})
	return err
}

// Name enters the image desc under w's name, as [Layout.Enter] does.
func (w *LayoutWriter) Name(ctx context.Context, desc ocispec.Descriptor, _ []byte) (already bool, err error) {
	desc.Annotations = nil
	if w.name != "" {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: w.name}
	}
	return w.Enter(ctx, desc)
}

// Has says whether the layout has the blob or manifest desc. What is there is read: it may be of another size, or have other
// bytes, and then it does not, and Upload puts the right ones in their place.
func (l *Layout) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return false, err
	}
	f, size, err := l.plain(layoutPath(desc.Digest))
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		defer f.Close()
		if size != desc.Size {
			return false, nil
		}
		err = copyChecked(ctx, io.Discard, desc, f, func(int64) {})
	}
	if _, wrong := errors.AsType[*MismatchError](err); wrong {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", l.dir, desc.Digest, bare(err))
	}
	return true, nil
}

// Upload writes the blob desc, whose bytes src has, if they match its size and digest: aside, synced, and then under its name.
// told hears of how many bytes were written. mounted is false.
func (l *Layout) Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (mounted bool, err error) {
	if err := checkDigest(desc.Digest); err != nil {
		return false, err
	}
	if err := l.put(ctx, desc, src, told); err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", l.dir, desc.Digest, noSpace(bare(err)))
	}
	return false, nil
}

func (l *Layout) put(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) error {
	name := layoutPath(desc.Digest)
	if err := l.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	dir, err := l.openDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return replaceIn(dir, filepath.Base(name), 0o644, func(w io.Writer) error { return copyChecked(ctx, w, desc, src, told) })
}

// copyChecked copies desc's bytes, and is an error if they are others.
func copyChecked(ctx context.Context, to io.Writer, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) error {
	in := io.NewSectionReader(src, 0, desc.Size+1)
	sum := desc.Digest.Algorithm().Digester()
	buf := make([]byte, ChunkSize)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		if at += int64(n); at > desc.Size {
			return &SizeError{Ref: desc.Digest.String(), Want: desc.Size, Got: at}
		}
		sum.Hash().Write(buf[:n])
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		told(at)
		switch {
		case errors.Is(err, io.EOF) && at < desc.Size:
			return &SizeError{Ref: desc.Digest.String(), Want: desc.Size, Got: at}
		case errors.Is(err, io.EOF):
			if got := sum.Digest(); got != desc.Digest {
				return &MismatchError{Ref: desc.Digest.String(), Want: desc.Digest, Got: got}
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// Enter enters images into index.json, all or none, each under the name in its annotation org.opencontainers.image.ref.name, in
// the place of all others of that name; one without a name, once. What is there besides is kept. already says that all stood
// there, and nothing was written. When it returns nil all that was written outlives a power cut.
func (l *Layout) Enter(ctx context.Context, images ...ocispec.Descriptor) (already bool, err error) {
	already, err = l.enter(ctx, images)
	if err != nil {
		return false, fmt.Errorf("layout %s: %s: %w", l.dir, ocispec.ImageIndexFile, noSpace(bare(err)))
	}
	return already, nil
}

func (l *Layout) enter(ctx context.Context, images []ocispec.Descriptor) (already bool, err error) {
	dir, err := l.openDir(".")
	if err != nil {
		return false, err
	}
	defer dir.Close() // and with it goes the lock
	if err := lockDir(ctx, dir); err != nil {
		return false, err
	}
	if err := l.settleBlobs(); err != nil {
		return false, err
	}
	x, err := l.readIndex()
	if err != nil {
		return false, err
	}
	already = true
	for _, image := range images {
		name := image.Annotations[ocispec.AnnotationRefName]
		if same, others := x.stands(name, image.Digest); same > 0 && others == 0 {
			continue
		}
		already = false
		x.remove(name)
		if err := x.add(image); err != nil {
			return false, err
		}
	}
	if already {
		return true, nil
	}
	b, err := x.encodeLayout()
	if err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return false, replaceIn(dir, ocispec.ImageIndexFile, 0o644, bytesInto(b))
}

// bytesInto is a write of b, for replaceIn.
func bytesInto(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// lockDir takes the flock of a directory. It waits for who has it as long as that can take, and no longer than ctx.
func lockDir(ctx context.Context, dir *os.File) error {
	return patiently(func() (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
}

// settleBlobs makes the names of the blobs durable, and takes away what was left behind beside them.
func (l *Layout) settleBlobs() error {
	names := []string{".", ocispec.ImageBlobsDir}
	for _, algorithm := range algorithms {
		names = append(names, filepath.Join(ocispec.ImageBlobsDir, algorithm.String()))
	}
	for _, name := range names {
		dir, err := l.openDir(name)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		sweepAsides(dir)
		err = dir.Sync()
		if err := errors.Join(err, dir.Close()); err != nil {
			return err
		}
	}
	return nil
}
