package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/layer"
)

// A treeFile is a small file of a tree. To open it opens nothing: the kernel may have
// its content, and then nobody reads it here. There are many of them.
type treeFile struct{ treeContent }

var (
	_ = handleless((*treeFile)(nil))
	_ = attributed((*treeFile)(nil))
	_ = listed((*treeFile)(nil))
)

func (f *treeFile) mayOpen() error { return f.t.bad() }

func (f *treeFile) readAlone(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	if off >= f.file.Inode().Size {
		return fuse.ReadResultData(nil), nil
	}
	obj, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	return f.read(ctx, obj, off, n)
}

// A treeContent is what all regular files of a tree have.
type treeContent struct {
	treeNode

	mu     sync.Mutex
	failed *failures // nil until a read failed; guarded by mu
}

// open opens the file's content.
func (f *treeContent) open(ctx context.Context) (Object, error) {
	l, ino := f.t.layers[f.file.Layer], f.file.Inode()
	if l.inStream(ino) {
		has := l.keeper().has(ctx, ino)
		if has || l.harvest.goesOn() {
			l.check()
			l.opened(ino, has)
			return partObject{layerPart{l.blob, l.reader(), ino}}, l.bad()
		}
	}
	obj, err := l.openFile(ctx, ino)
	if err == nil {
		l.opened(ino, obj.File() != nil)
	}
	return obj, err
}

// inStream says whether a file can be read out of what the layer's stream keeps: whatever
// is there was held against the digests of spans. Those of a table of contents need not
// make the file's, and the tar knows only the latter: to be held against it is no help.
func (l *layerFiles) inStream(ino *layer.Inode) bool {
	ix := l.held()
	return ino.Size < passFrom && l.keeper().fits && (ix.View == layer.ViewTar || ix.Verifies(ino))
}

// read reads the file's content. All of it was verified, by the digest of the file or
// by that of the part of the layer that it comes from, before it is here.
func (f *treeContent) read(ctx context.Context, obj Object, off int64, n int) (fuse.ReadResult, error) {
	end := min(off+int64(n), obj.Size())
	if off >= end {
		return fuse.ReadResultData(nil), nil
	}
	l := f.t.layers[f.file.Layer]
	if bad := errors.Join(obj.Bad(), l.bad()); bad != nil {
		return nil, bad
	}
	defer l.harvest.reading()()
	if err := f.failure(off, end); err != nil && !obj.Here(off, end-off) {
		return nil, err
	}
	err := obj.Wait(ctx, off, end-off)
	var result fuse.ReadResult
	if err == nil {
		result, err = f.t.s.replies.fill(ctx, obj, off, end)
	}
	if err != nil {
		if ctx.Err() == nil {
			f.fail(off, end, err)
		}
		return nil, fmt.Errorf("at %d: %w", off, err)
	}
	return result, nil
}

// failure is the error of a read of the same a moment ago.
func (f *treeContent) failure(off, end int64) error {
	f.mu.Lock()
	failed := f.failed
	f.mu.Unlock()
	if failed == nil {
		return nil
	}
	return failed.find(off, end)
}

func (f *treeContent) fail(off, end int64, err error) {
	f.mu.Lock()
	if f.failed == nil {
		f.failed = &failures{}
	}
	failed := f.failed
	f.mu.Unlock()
	failed.add(off, end, err)
}

// A layerPart is a file's content as its layer has it.
type layerPart struct {
	blob    *layerBlob
	content *layer.Content // of blob
	inode   *layer.Inode
}

// ReadAt reads verified bytes, as io.ReaderAt's.
func (p layerPart) ReadAt(ctx context.Context, b []byte, off int64) (n int, err error) {
	err = p.settled(ctx, func() error {
		n, err = p.content.ReadAt(ctx, p.inode, b, off)
		return err
	})
	return n, err
}

// Wait waits for them, as layer.Content's.
func (p layerPart) Wait(ctx context.Context, off, n int64) error {
	return p.settled(ctx, func() error { return p.content.Wait(ctx, p.inode, off, n) })
}

// settled reads, and once more where wrong bytes of the layer were thrown away.
func (p layerPart) settled(ctx context.Context, read func() error) error {
	err := read()
	if _, damaged := errors.AsType[*layer.DamageError](err); damaged && p.blob.settle(ctx) == nil {
		return read()
	}
	return err
}
