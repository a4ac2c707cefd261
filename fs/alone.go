package fs

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/locator"
)

// MountImage is Mount for one image alone: dir shows the files of ref, which has a
// digest. Nothing there ever changes, and so the kernel neither opens files nor
// directories: it asks for their attributes, names and bytes once.
//
// The error is iofs.ErrNotExist if there is no such image, or none of a file system.
func MountImage(ctx context.Context, dir string, src Source, hosts locator.Hosts, ref locator.Reference, opts *Options) (*Mounted, error) {
	s := newServer(src, hosts, opts.withDefaults())
	s.unopened = true
	s.top = func(s *server) node { return s.alone(ref) }
	root := s.alone(ref)
	s.table = newTable(root)
	if _, err := root.found(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("mount %s: %w", ref, err)
	}
	m, err := s.attachTo(dir)
	if err == nil {
		root.begin()
	}
	return m, err
}

// alone is the root of a mount of one image.
func (s *server) alone(ref locator.Reference) *treeRoot {
	d := &imageDir{s: s, loc: ref.Locator, name: locator.Name{Kind: locator.Image, Digest: ref.Digest}}
	root := d.rootfs()
	root.id, root.path = identity{ino: fuse.FUSE_ROOT_ID}, ""
	return root
}

// readings are the listings of directories that are not opened: of a few, by node, for
// who reads one in parts. The zero value is ready.
type readings struct {
	mu     sync.Mutex
	recent []numberedHandle // the latest last; guarded by mu
}

type numberedHandle struct {
	node uint64
	h    *handle
}

// maxReadings is how many directories are read at a time without being listed again.
const maxReadings = 64

// end forgets the listing of a directory that was read to its end.
func (ls *readings) end(node uint64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.recent = slices.DeleteFunc(ls.recent, func(r numberedHandle) bool { return r.node == node })
}

// of returns what stands for the handle of a directory.
func (ls *readings) of(node uint64) *handle {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, r := range ls.recent {
		if r.node == node {
			return r.h
		}
	}
	if len(ls.recent) == maxReadings {
		ls.recent = ls.recent[1:]
	}
	h := &handle{release: func() {}}
	ls.recent = append(ls.recent, numberedHandle{node, h})
	return h
}
