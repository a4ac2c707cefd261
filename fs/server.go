package fs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/layer"
	"distfs/locator"
)

// A server answers the kernel's requests about names and attributes. Reads are
// in read.go, directories in dir.go.
type server struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here

	src   Source
	hosts locator.Hosts
	opts  Options
	log   *slog.Logger
	owner fuse.Owner

	top      func(*server) node // makes the root of the mount
	table    *table
	handles  handles
	tags     tags
	objects  objects
	images   images
	visited  visited
	lists    lists
	fetched  fetched
	readings readings
	layers   layers
	trees    trees
	replies  *replies

	conn     connection     // the kernel's end; set before the first request
	tasks    sync.WaitGroup // what runs beside the requests
	ended    chan struct{}  // closed when what runs for nobody is to end
	unopened bool           // neither files nor directories are opened: nothing ever changes
	quiet    bool           // nobody is asked, and nothing begun: see walker
}

func newServer(src Source, hosts locator.Hosts, opts Options) *server {
	s := &server{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		src:           src,
		hosts:         hosts,
		opts:          opts,
		log:           opts.Log,
		owner:         fuse.Owner{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())},
		replies:       newReplies(replyBudget),
	}
	s.ended = make(chan struct{})
	s.layers.recent = newRecent[layerKey, *layerFiles](layerBudget)
	s.layers.spans = layer.NewCache(spanBudget)
	s.trees.recent = newRecent[treeKey, *tree](maxTrees)
	s.top = func(s *server) node { return &root{s} }
	s.table = newTable(s.top(s))
	s.tags.current = newRecent[string, *tagLink](maxTagLinks)
	s.images.documents = newRecent[objectKey, *document](documentBudget)
	s.images.hints = newRecent[objectKey, ocispec.Descriptor](hintBudget)
	s.images.trees = newRecent[objectKey, *linkTree](treeBudget)
	s.images.referred = newRecent[objectKey, referred](referrerBudget)
	s.images.listed = newRecent[objectKey, bool](referrerBudget)
	s.images.subjects = newRecent[locator.Locator, subjects](referrerBudget)
	return s
}

func (s *server) String() string { return fsName }

func (s *server) Init(srv *fuse.Server) { s.conn.srv = srv }

// Lookup answers without asking the network, but for names inside an image.
func (s *server) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := s.table.node(header.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	dir, ok := parent.(directory)
	if !ok {
		return fuse.ENOTDIR
	}
	if len(name) > maxName {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	ctx, end := s.begin(cancel, header)
	defer end()
	n, err := dir.lookup(ctx, name)
	if never, ok := errors.AsType[*neverError](err); ok {
		out.SetEntryTimeout(never.holds)
		return fuse.OK // with node 0: there is none, and that may be remembered
	}
	if err != nil {
		return s.errno(ctx, "lookup", parent.String()+"/"+name, err)
	}
	s.enter(n, out)
	return fuse.OK
}

// enter counts a look-up of n and tells the kernel what is known of it.
func (s *server) enter(n node, out *fuse.EntryOut) {
	var id uint64
	id, n = s.table.enter(n)
	ident, a := n.identity(), n.attributes()
	out.NodeId, out.Generation = id, ident.gen
	out.SetEntryTimeout(a.entry)
	out.SetAttrTimeout(a.valid)
	s.fill(&out.Attr, ident, a)
}

func (s *server) Forget(id, n uint64) { s.table.forget(id, n) }

// GetAttr asks the source for what is not known yet.
func (s *server) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := s.table.node(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	a := n.attributes()
	if asks, ok := n.(asker); ok && a.valid == 0 {
		ctx, end := s.begin(cancel, &in.InHeader)
		defer end()
		if err := asks.ask(ctx); err != nil {
			return s.errno(ctx, "stat", n.String(), err)
		}
		a = n.attributes()
	}
	out.SetTimeout(a.valid)
	s.fill(&out.Attr, n.identity(), a)
	return fuse.OK
}

func (s *server) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	n := s.table.node(header.NodeId)
	l, ok := n.(link)
	if !ok {
		return nil, fuse.EINVAL
	}
	ctx, end := s.begin(cancel, header)
	defer end()
	target, err := l.readlink(ctx)
	if err != nil {
		return nil, s.errno(ctx, "readlink", n.String(), err)
	}
	return []byte(target), fuse.OK
}

// Access leaves it to the mode bits and to who is let in at all.
func (s *server) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// StatFs tells of the store's file system.
func (s *server) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.src.StoreDir(), &st); err != nil {
		st = syscall.Statfs_t{Bsize: 4096, Frsize: 4096, Blocks: 1, Files: 1}
	}
	out.FromStatfsT(&st)
	out.NameLen = maxName
	return fuse.OK
}

// maxName is the longest name of a directory's entry, in bytes.
const maxName = 255

// beside runs what nobody waits for, until the mount ends.
func (s *server) beside(run func(context.Context)) {
	s.tasks.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.tasks.Go(func() {
			select {
			case <-s.ended:
				cancel()
			case <-ctx.Done():
			}
		})
		run(ctx)
	})
}

// close gives back what the kernel did not: after an abort it sends no release.
func (s *server) close() {
	s.lists.close()
	close(s.ended)
	s.tasks.Wait() // nobody waits for them any more
	for _, h := range s.handles.all() {
		h.release()
	}
	for _, n := range s.table.all() {
		if f, ok := n.(forgettable); ok {
			f.forgotten()
		}
	}
	s.layers.close()
}
