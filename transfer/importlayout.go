package transfer

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportLayout reads the OCI image layout in dir: the images that it names, or pick
// alone, if that is not "". Nothing outside of dir is opened, wherever links in it
// lead.
func ImportLayout(ctx context.Context, store ArchiveStore, dir, pick string) (*Import, error) {
	root, err := os.OpenRoot(dir + "/") // a fifo is not waited for
	if err != nil {
		if p, ok := errors.AsType[*os.PathError](err); ok {
			err = p.Err // who asked for dir knows it
		}
		return nil, err
	}
	defer root.Close()
	l := &layoutDir{Import: newImport(store, dir), root: root}
	if err := l.read(ctx, pick); err != nil {
		l.Release()
		return nil, err
	}
	return l.Import, nil
}

// A layoutDir is a layout on its way in.
type layoutDir struct {
	*Import
	root *os.Root
}

func (l *layoutDir) read(ctx context.Context, pick string) error {
	version, err := l.document(ocispec.ImageLayoutFile)
	if isMissing(err) {
		return fmt.Errorf("no OCI image layout: %s: %w there", ocispec.ImageLayoutFile, iofs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if err := checkLayout(version); err != nil {
		return err
	}
	index, err := l.document(ocispec.ImageIndexFile)
	if err != nil {
		return err
	}
	list, err := offers(index)
	if err != nil {
		return err
	}
	return l.take(ctx, list, pick, l.bring)
}

func (l *layoutDir) document(name string) ([]byte, error) {
	f, _, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name)
}

// open opens a regular file, and nothing else: a fifo must not hang it.
func (l *layoutDir) open(name string) (*os.File, int64, error) {
	f, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: it is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// bring is a gathering's.
func (l *layoutDir) bring(ctx context.Context, desc ocispec.Descriptor) error {
	if _, ok := l.here[desc.Digest]; ok {
		return l.brought(ctx, desc)
	}
	name := blobName(desc.Digest)
	f, size, err := l.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if size != desc.Size {
		return fmt.Errorf("%s: %d bytes, and not %d as is said of it", name, size, desc.Size)
	}
	if _, err := l.write(ctx, desc.Digest.String(), f, size, desc.Digest); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
