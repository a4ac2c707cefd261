package fs

import (
	"context"
	"errors"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A largeFile is a file of a tree that is worth to be read by the kernel itself. Its
// inode is one for life, so that an overlay on top can rely on it: whether its opens
// are passed through is decided when the first of those that are open at a time is
// made.
type largeFile struct {
	treeContent
	object  renewable[Object]
	backing shared[backing]

	opens  sync.Mutex
	lazy   int  // opens that are read through this process; guarded by opens
	passed int  // opens that the kernel reads itself; guarded by opens
	unfit  bool // the kernel would not take the file; guarded by opens
}

var (
	_ = file((*largeFile)(nil))
	_ = unopened((*largeFile)(nil))
	_ = forgettable((*largeFile)(nil))
)

func newLargeFile(n treeNode) *largeFile {
	f := &largeFile{treeContent: treeContent{treeNode: n}}
	f.object.open = f.treeContent.open
	f.object.close = func(o Object) { o.Close() }
	f.object.spoilt = func(o Object) bool { return o.Bad() != nil }
	f.backing.open = f.register
	f.backing.close = func(b backing) {
		n.t.s.conn.unregister(b.id)
		b.release()
	}
	return f
}

func (f *largeFile) forgotten() {
	f.object.end()
	f.backing.idle()
}

func (f *largeFile) open(ctx context.Context) (*handle, error) {
	if err := f.t.bad(); err != nil {
		return nil, err
	}
	obj, release, err := f.object.acquire(ctx, &f.t.s.tasks)
	if err != nil {
		return nil, err
	}
	if f.begin(obj) {
		h, err := f.pass(ctx)
		if !errors.Is(err, errUnfit) {
			release()
			return h, err
		}
	}
	return &handle{flags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, reader: largeReader{f, obj}, release: func() {
		release()
		f.end(&f.lazy)
	}}, nil
}

// errUnfit is that the kernel would not take a file, once and for all.
var errUnfit = errors.New("no passthrough for this file")

// pass opens the file for the kernel to read. If that does not take it, the open is
// counted as one that is read here.
func (f *largeFile) pass(ctx context.Context) (*handle, error) {
	b, err := f.backing.acquire(ctx, &f.t.s.tasks)
	if err == nil {
		return &handle{flags: fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH, backing: b.id, release: func() {
			f.backing.release()
			f.end(&f.passed)
		}}, nil
	}
	f.opens.Lock()
	defer f.opens.Unlock()
	f.passed--
	if errors.Is(err, errUnfit) {
		f.lazy++
	}
	return nil, err
}

// begin counts an open, and says whether the kernel is to read it itself: as those do
// that are open already, else where all of the content lies in a file of the store.
func (f *largeFile) begin(obj Object) (passed bool) {
	f.opens.Lock()
	defer f.opens.Unlock()
	if f.passed > 0 || f.lazy == 0 && !f.unfit && f.t.s.conn.passes && obj.File() != nil {
		f.passed++
		return true
	}
	f.lazy++
	return false
}

func (f *largeFile) end(opens *int) {
	f.opens.Lock()
	defer f.opens.Unlock()
	*opens--
}

// register hands the file to the kernel. If that does not want it, it is not asked
// again, for then who reads it here has it open. Who opens it has the object open.
func (f *largeFile) register(ctx context.Context) (backing, error) {
	f.opens.Lock()
	unfit := f.unfit
	f.opens.Unlock()
	if unfit {
		return backing{}, errUnfit
	}
	obj, releaseObject, err := f.object.acquire(ctx, &f.t.s.tasks)
	if err != nil {
		return backing{}, err
	}
	defer releaseObject()
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
		f.opens.Lock()
		f.unfit = true
		f.opens.Unlock()
		f.t.s.log.Warn("no passthrough for this file", "path", f.String(), "err", err)
		return backing{}, errUnfit
	}
	return backing{id, release}, nil
}

// readAlone serves a read of who has no handle.
func (f *largeFile) readAlone(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	obj, release, err := f.object.use(ctx, &f.t.s.tasks)
	if err != nil {
		return nil, err
	}
	defer release()
	return f.read(ctx, obj, off, n)
}

// A largeReader reads what is open.
type largeReader struct {
	f   *largeFile
	obj Object
}

func (r largeReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	return r.f.read(ctx, r.obj, off, n)
}
