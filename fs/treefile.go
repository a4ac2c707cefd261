package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/layer"
)

// A treeFile is a regular file of a tree. Its inode is one for life, so that an
// overlay on top can rely on it: whether its opens are passed through is decided
// when the first of those that are open at a time is made.
type treeFile struct {
	treeNode
	object  lingering[Object]
	backing shared[backing]

	mu     sync.Mutex
	lazy   int  // opens that are read through this process; guarded by mu
	passed int  // opens that the kernel reads itself; guarded by mu
	unfit  bool // the kernel would not take the file; guarded by mu

	failures failures
}

var (
	_ = asker((*treeFile)(nil))
	_ = file((*treeFile)(nil))
	_ = unopened((*treeFile)(nil))
	_ = attributed((*treeFile)(nil))
	_ = listed((*treeFile)(nil))
	_ = forgettable((*treeFile)(nil))
)

func newTreeFile(n treeNode) *treeFile {
	f := &treeFile{treeNode: n}
	f.object.open = f.openObject
	f.object.close = func(o Object) { o.Close() }
	f.backing.open = f.register
	f.backing.close = func(b backing) {
		n.t.s.conn.unregister(b.id)
		b.release()
	}
	return f
}

func (f *treeFile) forgotten() {
	f.object.letGo()
	f.object.idle()
	f.backing.idle()
}

// openObject opens the file's content.
func (f *treeFile) openObject(ctx context.Context) (Object, error) {
	l := f.t.layers[f.file.Layer]
	obj, err := l.openFile(ctx, f.file.Inode())
	if err == nil {
		l.opened(obj.File() != nil)
	}
	return obj, err
}

// open opens no content of a small file: the kernel may have it, and then nobody
// reads it here.
func (f *treeFile) open(ctx context.Context) (*handle, error) {
	if err := f.t.bad(); err != nil {
		return nil, err
	}
	if f.attr.size < passFrom {
		return &handle{flags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, reader: unopenedReader{f}, release: func() {}}, nil
	}
	obj, err := f.object.acquire(ctx, &f.t.s.tasks)
	if err != nil {
		return nil, err
	}
	if f.begin(obj) {
		f.object.release()
		b, err := f.backing.acquire(ctx, &f.t.s.tasks)
		if err == nil {
			return &handle{flags: fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH, backing: b.id, release: func() {
				f.backing.release()
				f.end(&f.passed)
			}}, nil
		}
		f.end(&f.passed)
		return nil, err
	}
	return &handle{flags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, reader: treeReader{f, obj}, release: func() {
		f.object.release()
		f.end(&f.lazy)
	}}, nil
}

// begin counts an open, and says whether the kernel is to read it itself: as those do
// that are open already, else where all of the content lies in a file of the store.
func (f *treeFile) begin(obj Object) (passed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.passed > 0 || f.lazy == 0 && !f.unfit && f.t.s.conn.passes && f.attr.size >= passFrom && obj.File() != nil {
		f.passed++
		return true
	}
	f.lazy++
	return false
}

func (f *treeFile) end(opens *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*opens--
}

// register hands the file to the kernel. If it does not want it, the next open is
// read without.
func (f *treeFile) register(ctx context.Context) (backing, error) {
	obj, err := f.object.acquire(ctx, &f.t.s.tasks)
	if err != nil {
		return backing{}, err
	}
	defer f.object.release()
	whole := obj.File()
	if whole == nil {
		return backing{}, errStale
	}
	release, err := f.t.s.src.Hold(contentDigest(f.file.Inode()))
	if err != nil {
		return backing{}, err
	}
	id, err := f.t.s.conn.register(whole)
	if err != nil {
		release()
		f.mu.Lock()
		f.unfit = true
		f.mu.Unlock()
		f.t.s.log.Warn("no passthrough for this file", "path", f.path, "err", err)
		return backing{}, errStale
	}
	return backing{id, release}, nil
}

// readAlone serves a read of who has no handle.
func (f *treeFile) readAlone(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	if f.attr.size == 0 {
		return fuse.ReadResultData(nil), nil
	}
	take := f.object.acquire
	if f.attr.size >= passFrom {
		take = f.object.use
	}
	obj, err := take(ctx, &f.t.s.tasks)
	if err != nil {
		return nil, err
	}
	defer f.object.release()
	return treeReader{f, obj}.read(ctx, off, n)
}

// A treeReader reads a file's content. All of it was verified, by the digest of the
// file or by that of the part of the layer that it comes from, before it is here.
type treeReader struct {
	f   *treeFile
	obj Object
}

func (r treeReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	end := min(off+int64(n), r.obj.Size())
	if off >= end {
		return fuse.ReadResultData(nil), nil
	}
	if bad := errors.Join(r.obj.Bad(), r.f.t.layers[r.f.file.Layer].bad()); bad != nil {
		return nil, bad
	}
	if err := r.f.failures.find(off, end); err != nil && !r.obj.Here(off, end-off) {
		return nil, err
	}
	err := r.obj.Wait(ctx, off, end-off)
	var result fuse.ReadResult
	if err == nil {
		result, err = r.f.t.s.replies.fill(ctx, r.obj, off, end)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.f.failures.add(off, end, err)
		}
		return nil, fmt.Errorf("at %d: %w", off, err)
	}
	return result, nil
}

// An unopenedReader opens the content for each read.
type unopenedReader struct{ f *treeFile }

func (r unopenedReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	return r.f.readAlone(ctx, off, n)
}

// A layerPart is a file's content as its layer has it.
type layerPart struct {
	content *layer.Content
	inode   *layer.Inode
}

// ReadAt reads verified bytes, as io.ReaderAt's.
func (p layerPart) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	return p.content.ReadAt(ctx, p.inode, b, off)
}
