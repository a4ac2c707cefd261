package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Layout is an OCI image layout that other programs made, or are to have (image-spec v1.1, image-layout.md). It has
// blobs/, index.json and oci-layout, and nothing of ours besides: no ingests, no locks, no records. What its names lead out of
// its directory to, by symlinks, is not read and not written.
//
// Who changes its index.json holds a flock of its directory, which leaves no file behind and which other programs do not know:
// of those, none should write at the same time. Its methods may be called by many goroutines at once.
type Layout struct {
	dir  string
	root *os.Root
}

// OpenLayout opens the layout in dir. The error is fs.ErrNotExist if there is none.
func OpenLayout(dir string) (*Layout, error) {
	l, err := openLayout(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	if err := l.check(); err != nil {
		l.Close()
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	return l, nil
}

// openLayout opens the directory, whatever is in it. The slash at its end keeps a fifo from being waited for.
func openLayout(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir + string(filepath.Separator))
	if err != nil {
		return nil, bare(err)
	}
	return &Layout{dir: dir, root: root}, nil
}

// check reads the file that says that this is a layout.
func (l *Layout) check() error {
	f, _, err := l.plain(ocispec.ImageLayoutFile)
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("it has no %s, and so is no OCI image layout: %w", ocispec.ImageLayoutFile, iofs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var layout ocispec.ImageLayout
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err == nil {
		err = json.Unmarshal(b, &layout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageLayoutFile, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%s has version %.20q, this program knows %q", ocispec.ImageLayoutFile, layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// Close ends the use of l.
func (l *Layout) Close() error { return l.root.Close() }

// plain opens a regular file, and nothing else: a fifo must not hang it.
func (l *Layout) plain(name string) (*os.File, int64, error) {
	f, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, bare(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func layoutPath(dgst digest.Digest) string {
	return filepath.Join(ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded())
}

// Blob opens the blob dgst, whose bytes need not match it. The caller closes it. The error is fs.ErrNotExist if l has none.
func (l *Layout) Blob(dgst digest.Digest) (*os.File, error) {
	if err := checkDigest(dgst); err != nil {
		return nil, err
	}
	f, _, err := l.plain(layoutPath(dgst))
	if err != nil {
		return nil, fmt.Errorf("%s: blob %s: %w", l.dir, dgst, err)
	}
	return f, nil
}

// Image returns what index.json calls name, or the digest name; "" is the one image that there is. The error is fs.ErrNotExist
// if there is none.
func (l *Layout) Image(name string) (ocispec.Descriptor, error) {
	x, err := l.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layout %s: %s: %w", l.dir, ocispec.ImageIndexFile, err)
	}
	image, n, err := x.find(name)
	switch {
	case err != nil:
		return ocispec.Descriptor{}, fmt.Errorf("layout %s: %s: %w", l.dir, ocispec.ImageIndexFile, err)
	case n == 1:
		return image, checkDigest(image.Digest)
	case n > 1 && name == "":
		return ocispec.Descriptor{}, fmt.Errorf("layout %s: it has %d images, and none was named: oci:%s:NAME, with a NAME as %.200q", l.dir, n, l.dir, nameOf(image))
	case n > 1:
		return ocispec.Descriptor{}, fmt.Errorf("layout %s: it has %d images of the name %.200q", l.dir, n, name)
	case name == "":
		return ocispec.Descriptor{}, fmt.Errorf("layout %s: no image: %w", l.dir, iofs.ErrNotExist)
	}
	return ocispec.Descriptor{}, fmt.Errorf("layout %s: no image %.200q: %w", l.dir, name, iofs.ErrNotExist)
}

// nameOf is what an image can be named by.
func nameOf(image ocispec.Descriptor) string {
	if name := image.Annotations[ocispec.AnnotationRefName]; name != "" {
		return name
	}
	return image.Digest.String()
}
