package fs

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A whole is an object all of which is here and verified. What the kernel is
// told of it holds for ever. Its form says who reads: of one node all opens
// are passed through, or none, for the kernel answers EIO to a mixture.
type whole struct {
	s    *server
	id   identity
	key  objectKey
	desc ocispec.Descriptor
	path string
	form form

	attempt int
	spoilt  atomic.Bool // it was found to have other bytes

	object  shared[Object]  // of formCached
	backing shared[backing] // of formPassed
}

// A backing is a file that the kernel reads itself.
type backing struct {
	id      int32  // the kernel's number of it
	release func() // lets the store evict it
}

var (
	_ = file((*whole)(nil))
	_ = attributed((*whole)(nil))
	_ = forgettable((*whole)(nil))
)

func newWhole(s *server, k objectKey, desc ocispec.Descriptor, path string, f form) *whole {
	w := &whole{s: s, key: k, desc: desc, path: path, form: f, attempt: s.objects.attempt(k)}
	w.id = identifyObject(k.loc, k.dgst, w.attempt, f)
	w.object.open = func(ctx context.Context) (Object, error) {
		obj, _, err := w.openObject(ctx)
		return obj, err
	}
	w.object.close = func(o Object) { o.Close() }
	w.backing.open = w.register
	w.backing.close = func(b backing) {
		s.conn.unregister(b.id)
		b.release()
	}
	return w
}

func (w *whole) identity() identity { return w.id }

func (w *whole) String() string { return w.path }

func (w *whole) attributes() attributes { return objectAttributes(w.desc.Size, forever, forever) }

func (w *whole) xattr(name string) (string, error) { return w.s.xattr(w.key.loc, w.key.dgst, name) }

func (w *whole) forgotten() {
	w.object.idle()
	w.backing.idle()
}

func (w *whole) open(ctx context.Context) (*handle, error) {
	if w.spoilt.Load() {
		return nil, errStale
	}
	if w.form == formPassed {
		b, err := w.backing.acquire(ctx, &w.s.tasks)
		if err != nil {
			return nil, err
		}
		return &handle{
			flags:   fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH,
			backing: b.id,
			release: w.backing.release,
		}, nil
	}
	obj, err := w.object.acquire(ctx, &w.s.tasks)
	if err != nil {
		return nil, err
	}
	return &handle{
		flags:   fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH,
		reader:  wholeReader{w, obj},
		release: w.object.release,
	}, nil
}

// openObject opens the object, which must still be whole: if its blob was
// deleted in the meantime, the next look-up finds it lazy.
func (w *whole) openObject(ctx context.Context) (Object, *os.File, error) {
	obj, err := w.s.src.Open(ctx, w.key.loc, w.desc)
	if err != nil {
		return nil, nil, err
	}
	file := obj.File()
	if file == nil {
		obj.Close()
		w.s.objects.lose(w.key)
		return nil, nil, errStale
	}
	return obj, file, nil
}

// register hands the file to the kernel, which keeps it open from then on. If
// it does not want it, the next look-up finds a node that is read without.
func (w *whole) register(ctx context.Context) (backing, error) {
	obj, file, err := w.openObject(ctx)
	if err != nil {
		return backing{}, err
	}
	defer obj.Close()
	release, err := w.s.src.Hold(w.key.dgst)
	if err != nil {
		return backing{}, err
	}
	id, err := w.s.conn.register(file)
	if err != nil {
		release()
		w.s.objects.refused(w.key)
		w.s.log.Warn("no passthrough for this object", "path", w.path, "err", err)
		return backing{}, errStale
	}
	return backing{id, release}, nil
}

// A wholeReader reads from the store's file.
type wholeReader struct {
	w   *whole
	obj Object
}

func (r wholeReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	end := min(off+int64(n), r.obj.Size())
	if off >= end {
		return fuse.ReadResultData(nil), nil
	}
	result, err := r.w.s.replies.fill(ctx, r.obj, off, end)
	if err != nil {
		return nil, fmt.Errorf("at %d: %w", off, err)
	}
	if bad := r.obj.Bad(); bad != nil { // it was found while it was read
		result.Done()
		return nil, fmt.Errorf("%w: %w", bad, syscall.EIO)
	}
	return result, nil
}

// The ways to find where an object's data and holes are.
const (
	seekData = 3
	seekHole = 4
)

// Lseek says that every object is data to its end: where holes are shown, cp
// and tar write zeros and exit 0.
func (s *server) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	n := s.table.node(in.NodeId)
	if n == nil {
		return fuse.EBADF
	}
	size := uint64(n.attributes().size)
	switch {
	case in.Offset >= size:
		return fuse.Status(syscall.ENXIO)
	case in.Whence == seekData:
		out.Offset = in.Offset
	case in.Whence == seekHole:
		out.Offset = size
	default:
		return fuse.EINVAL
	}
	return fuse.OK
}
