package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// OpenDir answers at once; the listing is made when it is read. The kernel
// keeps one whose end will be told, and reads the one that it has if that holds.
//
// Were the answer ENOSYS, the kernel would never ask and keep every listing: a
// listing on its way to it when a change is told would then stay for good.
// In the mount of one image nothing changes, and it is ENOSYS.
func (s *server) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if s.unopened {
		return fuse.ENOSYS
	}
	n := s.table.node(in.NodeId)
	if _, ok := n.(directory); !ok {
		return fuse.ENOTDIR
	}
	h := &handle{release: func() {}}
	switch d := n.(type) {
	case settledDir:
		if d.settled() {
			h.flags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
		}
	case watchedDir:
		version, ok := s.lists.begin(d)
		if !ok {
			break
		}
		h.flags, h.version = fuse.FOPEN_CACHE_DIR, version
		if s.lists.holds(d) {
			h.flags |= fuse.FOPEN_KEEP_CACHE
		}
	}
	out.Fh, out.OpenFlags = s.handles.add(h), h.flags
	return fuse.OK
}

func (s *server) ReleaseDir(in *fuse.ReleaseIn) { s.handles.take(in.Fh) }

func (s *server) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries, _, status := s.listing(cancel, in)
	for i := in.Offset; i < uint64(len(entries)); i++ {
		e := entries[i]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.ino, Off: i + 1}) {
			break
		}
	}
	return status
}

// ReadDirPlus looks every name up on the way. Where that fails the name alone
// is told, and the kernel will ask if it wants to know.
func (s *server) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries, dir, status := s.listing(cancel, in)
	ctx, end := s.begin(cancel, &in.InHeader)
	defer end()
	for i := in.Offset; i < uint64(len(entries)); i++ {
		e := entries[i]
		plus := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.ino, Off: i + 1})
		if plus == nil {
			break
		}
		if e.name == "." || e.name == ".." {
			continue
		}
		if n, err := dir.lookup(ctx, e.name); err == nil {
			s.enter(n, plus)
		}
	}
	return status
}

// listing returns what the handle lists: made when it is read from its start,
// and the same until it is read from there again, so that offsets hold.
func (s *server) listing(cancel <-chan struct{}, in *fuse.ReadIn) ([]entry, directory, fuse.Status) {
	h, n := s.handles.get(in.Fh), s.table.node(in.NodeId)
	if s.unopened {
		h = s.readings.of(in.NodeId)
	}
	dir, ok := n.(directory)
	if h == nil || !ok {
		return nil, nil, fuse.EBADF
	}
	if entries := h.listed(); in.Offset > 0 && entries != nil {
		if s.unopened && in.Offset >= uint64(len(entries)) {
			s.readings.end(in.NodeId) // nothing changes: who still reads has it made again
		}
		return entries, dir, fuse.OK
	}
	ctx, end := s.begin(cancel, &in.InHeader)
	defer end()
	entries, err := dir.list(ctx)
	if err != nil {
		return nil, nil, s.errno(ctx, "list", n.String(), err)
	}
	entries = append([]entry{
		{name: ".", mode: syscall.S_IFDIR, ino: n.identity().ino},
		{name: "..", mode: syscall.S_IFDIR},
	}, entries...)
	if d, ok := n.(watchedDir); ok && h.flags&fuse.FOPEN_CACHE_DIR != 0 {
		s.lists.keep(d, h.version)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = entries
	return entries, dir, fuse.OK
}

// listed is the listing that offsets in this handle refer to.
func (h *handle) listed() []entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries
}
