// Package fetch brings the content of repositories into the store, by ranges.
//
// It is the one engine that fills the store. An object is a digest, a size and
// a [Remote] that can read a range of it. A read is answered from the store
// where the range is there; else it waits for the range, which goes to the
// front of the queue:
//
//	Fetcher ── one pull for each (origin, digest) that is open ── Object, one for each opener
//	             │  demands   ranges that a read waits for
//	             │  cursors   reads that go on in sequence: fetched ahead of
//	             │  fill      the whole object, in order
//	             └─ workers   a connection each: claim chunks, ask for them, write them, say so
//
// Every byte enters through a [content.Ingest], whose claims see to it that no
// chunk is fetched twice, by whatever process on the store. The origin of an
// object is its locator's host: until its digest matched, bytes from one host
// are never shown to the readers of another.
//
// What is read of an object that is not whole is vouched for by the transport
// alone; [Object.Verify] waits until the whole digest matched. Holding bytes
// back until then is for those who hand bytes to programs.
//
// A file of a layer is such an object too, see [Fetcher.OpenFile]: its Remote is
// the layer, its origin the layer's digest.
//
// A [Pusher] goes the other way: it brings blobs and manifests into a repository
// of a registry, by upload sessions that go on after a cut, also of the process.
//
// All HTTP of the project is in this package. Errors carry kinds: io/fs's
// ErrNotExist and ErrPermission, os.ErrDeadlineExceeded, and the syscall.Errno
// EHOSTUNREACH, EBUSY, ENETUNREACH, ENOSPC, EROFS and EIO.
package fetch

import (
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"distfs/content"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultFillBelow is the size below which opening an object fetches all of it.
const DefaultFillBelow = 64 << 20

// DefaultTimeout is how long a request may go without progress.
const DefaultTimeout = 30 * time.Second

// Options regulate a Fetcher. A nil *Options means the zero value.
type Options struct {
	Offline   bool          // send nothing: what the store does not hold is absent
	Timeout   time.Duration // without progress, a request ends; 0 means DefaultTimeout
	FillBelow int64         // opening fetches the whole of what is smaller; 0 means DefaultFillBelow, negative never
	MaxSize   int64         // bytes on disk that the store may have; 0 is no limit
	TakeWord  bool          // open what nothing is held of by the caller's word alone: for who reads one object and ends
	Bulk      bool          // nobody reads while all is fetched: no connection is kept for that, and no log says how it is served
	UserAgent string        // what requests say they come from; "" means "distfs"
	Log       *slog.Logger  // nil discards

	// DockerConfig is the file that credentials are looked for in, as docker's
	// config.json has them. "" means $REGISTRY_AUTH_FILE, docker's config.json
	// and podman's auth.json, the first of them that has a key for a repository.
	DockerConfig string

	// CertsDirs are folders as containerd's certs.d, HOST/hosts.toml in each.
	// The first that has something for a host is taken, unless hosts has. They
	// are read when a host is first asked.
	CertsDirs []string

	// RootCAs vouch for registries. nil means the system's.
	RootCAs *x509.CertPool

	// Dial opens the connections to registries, token servers and what they
	// redirect to. nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Fetcher opens objects of repositories. It is safe for use by many
// goroutines; Close ends all its work.
type Fetcher struct {
	store   *content.Store
	hosts   locator.Hosts
	opts    Options
	remotes *remotes
	limits  *limits
	loose   *loose  // what cannot be kept
	passes  *places // for passes over what cannot be kept
	loads   *places // for small files of layers, in memory until they are kept
	quota   *content.Quota
	asks    asks
	uploads uploads

	ctx  context.Context //nolint:containedctx // the lifetime of shared work, which outlives the calls that begin it
	stop context.CancelFunc
	wg   sync.WaitGroup // the pulls' goroutines

	saidFull atomic.Int64 // when the log said that the disk is full, in nanoseconds

	spawn  sync.RWMutex      // held while a goroutine begins, so that Close waits for it
	mu     sync.Mutex        // taken before a pull's, never after
	closed bool              // guarded by spawn
	pulls  map[pullKey]*pull // open, or being filled; guarded by mu
	gone   map[*pull]bool    // open, and not to be opened again; guarded by mu
}

// A pullKey names an object's bytes on their way in. Until its digest matched
// they are only as good as the origin that sent them.
type pullKey struct {
	origin string
	dgst   digest.Digest
}

// New returns a Fetcher that fills store from the remotes that hosts names.
// Neither may change while it is in use; the store stays open after Close.
func New(store *content.Store, hosts locator.Hosts, opts *Options) *Fetcher {
	f := &Fetcher{store: store, hosts: hosts, pulls: make(map[pullKey]*pull), gone: make(map[*pull]bool)}
	if opts != nil {
		f.opts = *opts
	}
	if f.opts.Timeout <= 0 {
		f.opts.Timeout = DefaultTimeout
	}
	if f.opts.FillBelow == 0 {
		f.opts.FillBelow = DefaultFillBelow
	}
	if f.opts.UserAgent == "" {
		f.opts.UserAgent = "distfs"
	}
	if f.opts.Log == nil {
		f.opts.Log = slog.New(slog.DiscardHandler)
	}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.remotes = newRemotes(hosts, &f.opts)
	f.limits = newLimits(f.opts.Bulk)
	f.loose = newLoose()
	f.passes = newPlaces(maxPasses)
	f.loads = newPlaces(maxLoads)
	f.quota = content.NewQuota(store, f.opts.MaxSize)
	return f
}

// Close ends every fetch and waits for its goroutines. What arrived is kept.
// Reads that wait end with context.Canceled. Open fails from then on.
func (f *Fetcher) Close() error {
	f.spawn.Lock()
	f.closed = true
	f.spawn.Unlock()
	f.stop()
	f.wg.Wait()
	f.mu.Lock()
	pulls := slices.AppendSeq(slices.Collect(maps.Values(f.pulls)), maps.Keys(f.gone))
	f.pulls, f.gone = make(map[pullKey]*pull), make(map[*pull]bool)
	f.mu.Unlock()
	for _, p := range pulls {
		p.release()
	}
	f.remotes.close()
	return nil
}

// begin runs work in a goroutine that Close waits for, or says that it is too
// late for that.
func (f *Fetcher) begin(work func()) bool {
	f.spawn.RLock()
	defer f.spawn.RUnlock()
	if f.closed {
		return false
	}
	f.wg.Go(work)
	return true
}

// repo is how the store names a repository.
func repo(loc locator.Locator) string { return loc.String() }

// origin is whose bytes an unverified ingest of desc holds: the locator's host. Of
// a layer that may come from urls it is the repository, for they are its manifests':
// who may push to one repository of a host is no word for another.
func (f *Fetcher) origin(loc locator.Locator, desc ocispec.Descriptor) string {
	if isForeign(desc) {
		return loc.String()
	}
	if was, ok := f.answered(loc, desc.Digest); ok && isForeignType(was.MediaType) {
		return loc.String()
	}
	return loc.Host
}

// answered says what the store has on record of an object that loc's
// repository answered for.
func (f *Fetcher) answered(loc locator.Locator, dgst digest.Digest) (ocispec.Descriptor, bool) {
	desc, err := f.store.Object(repo(loc), dgst)
	return desc, err == nil
}

// record keeps that loc's repository answered for desc. That it could not be
// kept costs a request later and nothing else.
func (f *Fetcher) record(loc locator.Locator, desc ocispec.Descriptor) {
	desc = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	if was, ok := f.answered(loc, desc.Digest); ok && was.Size == desc.Size && (was.MediaType == desc.MediaType || desc.MediaType == octets) {
		return
	}
	if err := f.store.SetObject(repo(loc), desc); err != nil && !f.sayFull(err) {
		f.opts.Log.Warn("record not kept", "locator", loc.String(), "digest", desc.Digest, "err", err)
	}
}
