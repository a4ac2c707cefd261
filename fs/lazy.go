package fs

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lazyEntry is how long the kernel may take a name for a lazy object without
// asking: a stat then does not come here, and who opens the object a second after
// it became whole still has the kernel read it.
const lazyEntry = time.Second

// A lazy is an object that may be partly here. The kernel keeps its pages, but
// its name for a moment only, so that a later look-up finds the whole one.
type lazy struct {
	s       *server
	id      identity
	key     objectKey
	attempt int
	path    string

	object shared[Object]
	stat   flight[ocispec.Descriptor]

	mu   sync.Mutex
	desc ocispec.Descriptor // Size is unknownSize until it is known; guarded by mu
	told bool               // the kernel has the size; guarded by mu
	bad  error              // why the bytes are not those of the digest; guarded by mu

	failures failures
}

var (
	_ = asker((*lazy)(nil))
	_ = file((*lazy)(nil))
	_ = attributed((*lazy)(nil))
	_ = forgettable((*lazy)(nil))
)

func newLazy(s *server, k objectKey, desc ocispec.Descriptor, path string) *lazy {
	attempt := s.objects.attempt(k)
	n := &lazy{s: s, key: k, attempt: attempt, path: path, desc: desc}
	n.id = identifyObject(k.loc, k.dgst, attempt, formLazy)
	n.object.open = func(ctx context.Context) (Object, error) { return s.src.Open(ctx, k.loc, n.descriptor()) }
	n.object.close = func(o Object) { o.Close() }
	return n
}

func (n *lazy) identity() identity { return n.id }

func (n *lazy) String() string { return n.path }

func (n *lazy) xattr(name string) (string, error) { return n.s.xattr(n.key.loc, n.key.dgst, name) }

func (n *lazy) forgotten() { n.object.idle() }

// attributes are valid for ever once the size is known: it never changes.
func (n *lazy) attributes() attributes {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.desc.Size < 0 {
		return objectAttributes(0, 0, 0)
	}
	n.told = true
	return objectAttributes(n.desc.Size, lazyEntry, forever)
}

func (n *lazy) descriptor() ocispec.Descriptor {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.desc
}

// ask finds the size out, and with it whether the object exists.
func (n *lazy) ask(ctx context.Context) error {
	hint := n.descriptor()
	if hint.Size >= 0 {
		return nil
	}
	desc, err := n.stat.do(ctx, &n.s.tasks, func(ctx context.Context) (ocispec.Descriptor, error) {
		return n.s.src.Stat(ctx, n.key.loc, ocispec.Descriptor{Digest: hint.Digest, MediaType: hint.MediaType})
	})
	if err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("stat %s: the size is %d: %w", n.key.dgst, desc.Size, syscall.EIO)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.desc = desc
	return nil
}

// open waits for the size at most. What was opened before the kernel knew the
// size would be empty to splice and sendfile: there it must look it up again.
func (n *lazy) open(ctx context.Context) (*handle, error) {
	if err := n.ask(ctx); err != nil {
		return nil, err
	}
	if n.isBad() || !n.tell() {
		return nil, errStale
	}
	obj, err := n.object.acquire(ctx, &n.s.tasks)
	if err != nil {
		return nil, err
	}
	if size := n.descriptor().Size; obj.Size() != size {
		n.object.release()
		return nil, fmt.Errorf("%s: has %d bytes, was said to have %d: %w", n.key.dgst, obj.Size(), size, syscall.EIO)
	}
	return &handle{
		flags:   fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH,
		reader:  lazyReader{n, obj},
		release: n.object.release,
	}, nil
}

// tell says whether the kernel has the size. The second time it is true: who
// comes by a path that has no names (/proc/self/fd) can't look it up again.
func (n *lazy) tell() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	told := n.told
	n.told = true
	return told
}

// isBad says whether the digest did not match, now or at any time before. The
// first to learn of it ends the attempt and has the kernel drop its pages.
func (n *lazy) isBad() bool {
	obj, _ := n.object.peek()
	return n.check(obj) != nil
}

// check returns why the bytes of obj, one of n's, are not those of the digest.
func (n *lazy) check(obj Object) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bad != nil {
		return &saidError{n.bad}
	}
	if obj == nil || obj.Bad() == nil {
		return nil
	}
	n.bad = fmt.Errorf("%w: %w", obj.Bad(), syscall.EIO)
	n.s.objects.failed(n.key, n.attempt)
	n.s.lists.touch(n.key.loc.String()) // listings tell st_ino
	// In a goroutine of its own, for it waits for the reads that are held:
	// these find n.bad and end.
	n.s.tasks.Go(func() { n.s.drop(n) })
	return n.bad
}
