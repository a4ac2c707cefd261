package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A Shelf is where Push has an image from: a store, or an OCI image layout. It is
// safe for use by many goroutines.
type Shelf interface {
	// Blob opens a blob or manifest. The error is iofs.ErrNotExist if there is
	// none.
	Blob(dgst digest.Digest) (*os.File, error)
}

// A Holder is a Shelf that others may evict something from. What Push is to send is
// held from before it is looked for until Push returns.
type Holder interface {
	Shelf

	// Hold keeps a blob or manifest from being evicted, until release. It need not
	// be there.
	Hold(dgst digest.Digest) (release func(), err error)
}

// A Destination is where Push brings an image to: a repository and a tag, or an
// OCI image layout and a name in it. It is safe for use by many goroutines.
type Destination interface {
	// Has says whether a blob or manifest is there.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)

	// Upload brings a blob there. mounted says that it was there under another
	// name, and that none of its bytes were sent. told hears of how many bytes are
	// there, until Upload returns; the number may go back. What src has may be
	// wrong: then it is an error, and the blob is not there.
	Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (mounted bool, err error)

	// PutManifest brings a manifest or index there, of which all that it names is
	// there.
	PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error

	// Name gives what was pushed its name. already says that it had it, or that
	// there is no name to give.
	Name(ctx context.Context, desc ocispec.Descriptor, b []byte) (already bool, err error)
}

// PushOptions regulate a Push. A nil *PushOptions means the zero value.
type PushOptions struct {
	Platform     ocispec.Platform // of an index, only the image for it goes; the zero value is the host's
	AllPlatforms bool             // of an index, everything goes, and it itself
	Digest       digest.Digest    // what is to be named must have it; "" is any
	Parallel     int              // how many objects are on their way at a time; 0 means 4
	Label        string           // of the destination, in events: LABEL@DIGEST
	Report       Report           // hears of each object; nil is nobody
}

// Pushed is what a Push did.
type Pushed struct {
	Desc   ocispec.Descriptor // what has the name now: the index, or a manifest
	Images int                // of the index that it was chosen from, for platforms; 0 is none
	Named  bool               // it had it not before

	Objects        int   // that it is made of, itself included, without foreign layers
	Total          int64 // their bytes
	Exist, Mounted int   // of the objects, those that were there, in this repository and in another
	Sent           int64 // bytes of those that were sent
}

const parallelPushes = 4

// Push brings the image root from src to dst: what dst lacks of its configs and
// layers, several at a time, then the manifests that name them, then the indexes
// that name these, root last, and then it gives it its name. So what is named at
// dst is whole at any time, also if Push is interrupted; the next one sends what
// is missing.
//
// Layers that are not for others to distribute are left out, as their media type
// asks for. What root names is taken from bytes that match their digests.
//
// The error is an *image.PlatformError where an index has no such platform, an
// *image.Error for a manifest that is wrong, iofs.ErrNotExist for what is neither
// here nor there, and syscall.EIO for what contradicts itself or is too much.
// A src that is a Holder holds all of root meanwhile.
func Push(ctx context.Context, src Shelf, root ocispec.Descriptor, dst Destination, opts *PushOptions) (Pushed, error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	p := &pushing{src: src, dst: dst, opts: opts, held: make(map[digest.Digest]func())}
	defer p.release()
	var err error
	if root, err = p.chosen(root); err != nil {
		return Pushed{}, err
	}
	load, err := p.load(root)
	if err != nil {
		return Pushed{}, err
	}
	p.done.Desc = load.root()
	if want := opts.Digest; want != "" && p.done.Desc.Digest != want {
		return Pushed{}, fmt.Errorf("%s would be pushed, and not %s", p.done.Desc.Digest, want)
	}
	for _, list := range [][]ocispec.Descriptor{load.blobs, load.manifests, load.indexes} {
		for _, desc := range list {
			p.done.Objects++
			p.done.Total += desc.Size
			p.report(Event{Desc: desc, State: Waiting})
		}
	}
	if err := p.all(ctx, load); err != nil {
		return Pushed{}, err
	}
	return p.done, nil
}

// A pushing is one run of Push.
type pushing struct {
	src  Shelf
	dst  Destination
	opts *PushOptions
	held map[digest.Digest]func() // what lets go of it; none of a Shelf that is no Holder

	mu   sync.Mutex
	done Pushed // guarded by mu
}

// hold keeps dgst on the shelf, once.
func (p *pushing) hold(dgst digest.Digest) error {
	h, ok := p.src.(Holder)
	if !ok || p.held[dgst] != nil {
		return nil
	}
	release, err := h.Hold(dgst)
	if err == nil {
		p.held[dgst] = release
	}
	return err
}

func (p *pushing) release() {
	for _, release := range p.held {
		release()
	}
}

func (p *pushing) all(ctx context.Context, load *load) error {
	if err := p.each(ctx, load.blobs, p.blob); err != nil {
		return err
	}
	if err := p.each(ctx, load.manifests, p.manifest); err != nil {
		return err
	}
	for _, desc := range load.indexes { // of which some name others
		if err := p.manifest(ctx, desc); err != nil {
			return err
		}
	}
	root := load.root()
	b, err := p.read(root)
	if err != nil {
		return err
	}
	already, err := p.dst.Name(ctx, root, b)
	p.done.Named = !already
	return err
}

// each does one for each of list, several at a time, until one fails.
func (p *pushing) each(ctx context.Context, list []ocispec.Descriptor, one func(context.Context, ocispec.Descriptor) error) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelPushes)
	if p.opts.Parallel > 0 {
		group.SetLimit(p.opts.Parallel)
	}
	for _, desc := range list {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error { return one(gctx, desc) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (p *pushing) blob(ctx context.Context, desc ocispec.Descriptor) error {
	there, err := p.dst.Has(ctx, desc)
	if err != nil || there {
		return p.was(desc, Exists, err)
	}
	f, err := p.open(desc)
	if err != nil {
		return err
	}
	defer f.Close()
	u := &uploading{p: p, desc: desc, File: f, last: -followEvery}
	mounted, err := p.dst.Upload(ctx, desc, u, u.told)
	if err != nil || mounted {
		return p.was(desc, Mounted, err)
	}
	p.sent(desc, u.had) // nobody tells it any more
	return nil
}

func (p *pushing) manifest(ctx context.Context, desc ocispec.Descriptor) error {
	there, err := p.dst.Has(ctx, desc)
	if err != nil || there {
		return p.was(desc, Exists, err)
	}
	b, err := p.read(desc)
	if err != nil {
		return err
	}
	p.report(Event{Desc: desc, State: Uploading})
	if err := p.dst.PutManifest(ctx, desc, b); err != nil {
		return err
	}
	p.sent(desc, 0)
	return nil
}

// was counts what did not have to be sent.
func (p *pushing) was(desc ocispec.Descriptor, how State, err error) error {
	if err != nil {
		return err
	}
	p.mu.Lock()
	if how == Mounted {
		p.done.Mounted++
	} else {
		p.done.Exist++
	}
	p.mu.Unlock()
	p.report(Event{Desc: desc, State: how, Offset: desc.Size, Had: desc.Size})
	return nil
}

// sent counts what was sent, but for the first had bytes.
func (p *pushing) sent(desc ocispec.Descriptor, had int64) {
	p.mu.Lock()
	p.done.Sent += desc.Size - had
	p.mu.Unlock()
	p.report(Event{Desc: desc, State: Done, Offset: desc.Size, Had: had})
}

func (p *pushing) report(e Event) {
	if p.opts.Report == nil {
		return
	}
	e.Ref = e.Desc.Digest.String()
	if p.opts.Label != "" {
		e.Ref = p.opts.Label + "@" + e.Ref
	}
	p.opts.Report(e)
}

// followEvery is how many bytes are sent between two events.
const followEvery = 256 << 10

// An uploading is a file that is sent, and how far that is. What is told before any
// of it was read was there before, as what an upload that was interrupted left.
type uploading struct {
	*os.File
	p    *pushing
	desc ocispec.Descriptor
	read atomic.Bool // some of it was read

	mu        sync.Mutex
	had, last int64 // there before, and told of last; guarded by mu
}

func (u *uploading) ReadAt(b []byte, off int64) (int, error) {
	u.read.Store(true)
	return u.File.ReadAt(b, off)
}

func (u *uploading) told(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.had = min(u.had, n); !u.read.Load() {
		u.had = n
	}
	if n < u.last || n-u.last >= followEvery {
		u.last = n
		u.p.report(Event{Desc: u.desc, State: Uploading, Offset: n, Had: u.had})
	}
}

// An AbsentError is that the shelf lacks what is to be sent. It is
// iofs.ErrNotExist.
type AbsentError struct {
	Desc  ocispec.Descriptor
	where string
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("%s, of type %.255q, is %s", e.Desc.Digest, e.Desc.MediaType, e.where)
}

// Is makes it iofs.ErrNotExist.
func (e *AbsentError) Is(target error) bool { return target == iofs.ErrNotExist }

// open opens what is to be sent, which must have the size that is known of it.
func (p *pushing) open(desc ocispec.Descriptor) (*os.File, error) {
	f, err := p.src.Blob(desc.Digest)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, &AbsentError{desc, "neither here nor there"}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = broken("%s has %d bytes here, and %d by what names it", desc.Digest, info.Size(), desc.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
