package fs

import (
	"context"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A handle is one open of a file or a directory.
type handle struct {
	flags   uint32 // FOPEN_…
	backing int32  // with FOPEN_PASSTHROUGH: the kernel's number of the file

	reader  reader // nil for a directory, and where the kernel reads itself
	release func() // not nil; called once
	version uint64 // of a directory that is watched: when it was opened

	mu      sync.Mutex
	entries []entry // of a directory, as it was when it was last read from its start; guarded by mu
}

// A reader serves the reads of a handle.
type reader interface {
	// read returns the n bytes from off on, fewer only at the end.
	read(ctx context.Context, off int64, n int) (fuse.ReadResult, error)
}

// handles are the open ones, by the numbers that the kernel has. The zero
// value is ready.
type handles struct {
	mu   sync.Mutex
	byFh map[uint64]*handle // guarded by mu
	last uint64             // guarded by mu
}

func (hs *handles) add(h *handle) uint64 {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.byFh == nil {
		hs.byFh = make(map[uint64]*handle)
	}
	hs.last++
	hs.byFh[hs.last] = h
	return hs.last
}

func (hs *handles) get(fh uint64) *handle {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.byFh[fh]
}

// take removes a handle; nil if there is none of that number.
func (hs *handles) take(fh uint64) *handle {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.byFh[fh]
	delete(hs.byFh, fh)
	return h
}

// all removes and returns every handle.
func (hs *handles) all() []*handle {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var all []*handle
	for _, h := range hs.byFh {
		all = append(all, h)
	}
	clear(hs.byFh)
	return all
}

// Open asks whether the object exists, but never waits for its bytes.
func (s *server) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := s.table.node(in.NodeId)
	if s.unopened {
		return fuse.ENOSYS // from then on the kernel does not ask
	}
	if f, ok := n.(handleless); ok {
		if err := f.mayOpen(); err != nil {
			return s.errno(context.Background(), "open", n.String(), err)
		}
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
		return fuse.OK
	}
	f, ok := n.(file)
	if !ok {
		return fuse.EIO
	}
	ctx, end := s.begin(cancel, &in.InHeader)
	defer end()
	h, err := f.open(ctx)
	if err != nil {
		return s.errno(ctx, "open", n.String(), err)
	}
	out.Fh = s.handles.add(h)
	out.OpenFlags, out.BackingID = h.flags, h.backing
	return fuse.OK
}

func (s *server) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := s.handles.take(in.Fh); h != nil {
		h.release()
	}
}

// Flush has nothing to do.
func (s *server) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status {
	if s.unopened {
		return fuse.ENOSYS // from then on the kernel does not ask
	}
	return fuse.OK
}

// readerOf is what reads for a request: its handle's, or that of a node without any.
func (s *server) readerOf(in *fuse.ReadIn) func(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	if h := s.handles.get(in.Fh); h != nil && h.reader != nil {
		return h.reader.read
	}
	if n, ok := s.table.node(in.NodeId).(unopened); ok && in.Fh == noHandle {
		return n.readAlone
	}
	return nil
}

// noHandle is the number of no handle.
const noHandle = 0

func (s *server) Read(cancel <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	read := s.readerOf(in)
	if read == nil {
		return nil, fuse.EIO
	}
	ctx, end := s.begin(cancel, &in.InHeader)
	defer end()
	result, err := read(ctx, int64(in.Offset), int(in.Size))
	if err != nil {
		path := ""
		if n := s.table.node(in.NodeId); n != nil {
			path = n.String()
		}
		return nil, s.errno(ctx, "read", path, err)
	}
	return result, fuse.OK
}
