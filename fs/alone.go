package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/image"
	"distfs/locator"
)

// MountImage is Mount for one image alone: dir shows the files of ref, which has a
// digest. Nothing there ever changes, and so the kernel neither opens files nor
// directories: it asks for their attributes, names and bytes once.
//
// The error is iofs.ErrNotExist if there is no such image, or none of a file system. It
// is an *image.PlatformError where there is none for opts.Platform: of an image that is
// in no index, if its config says so. Where that is the zero value, such an image is
// mounted, and the log tells of it.
func MountImage(ctx context.Context, dir string, src Source, hosts locator.Hosts, ref locator.Reference, opts *Options) (*Mounted, error) {
	s := newServer(src, hosts, opts.withDefaults())
	s.unopened = true
	s.top = func(s *server) node { return s.alone(ref) }
	root := s.alone(ref)
	s.table = newTable(root)
	_, err := root.found(ctx)
	if err == nil {
		err = root.only.fits(ctx)
	}
	if err != nil {
		s.close()
		if strings.Contains(err.Error(), ref.String()) {
			return nil, fmt.Errorf("mount: %w", err) // it tells of what
		}
		return nil, fmt.Errorf("mount %s: %w", ref, err)
	}
	root.begin() // before the mount serves: it may end at any time
	m, err := s.attachTo(dir)
	if err != nil {
		s.close()
	}
	return m, err
}

// alone is the root of a mount of one image.
func (s *server) alone(ref locator.Reference) *treeRoot {
	d := &imageDir{s: s, loc: ref.Locator, name: locator.Name{Kind: locator.Image, Digest: ref.Digest}}
	root := d.rootfs()
	root.id, root.path, root.only = identity{ino: fuse.FUSE_ROOT_ID}, "", d
	return root
}

// fits refuses an image in no index that is for another platform than the one that was
// asked for. What its config says is not known where that is not here.
func (d *imageDir) fits(ctx context.Context) error {
	top, err := d.top(ctx)
	if err != nil {
		return err
	}
	if top.Index || top.Config == nil || !image.IsConfig(top.Config.MediaType) || d.s.opts.Offline && !d.s.isWhole(d.loc, top.Config.Digest) {
		return nil
	}
	asked := d.s.opts.Platform.OS != ""
	config, err := d.s.readAll(ctx, objectKey{d.loc, top.Config.Digest}, *top.Config)
	if err != nil && asked {
		return fmt.Errorf("the image's config: %w", err)
	}
	have, ok := image.ConfigPlatform(config)
	if !ok {
		return nil
	}
	err = image.Fits(have, d.s.platform())
	if err != nil && !asked {
		d.s.log.Warn("the image is for another platform than this machine's", "image", d.loc.String()+"@"+string(d.name.Digest), "err", err)
		return nil
	}
	return err
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
