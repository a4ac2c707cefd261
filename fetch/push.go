package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"sync"
	"syscall"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Pusher writes to one repository of a registry (distribution-spec v1.1,
// "Push"), which is asked itself, never a mirror. What it has written, or found
// there, the store has on record. It is safe for use by many goroutines.
//
// What is sent again after a failure is bounded as with reading: by the timeout
// without progress, by a number of attempts, and by what the host asked for in a
// Retry-After.
type Pusher struct {
	f   *Fetcher
	r   *registry
	ref locator.Reference

	chunk int64           // bytes of a chunk, where the registry does not want more
	repos func() []string // others of the same host, that the store has on record
}

// Pusher returns what writes to ref's repository, and gives ref's tag, if it has
// one, to what is pushed. It asks nobody. The error is syscall.EROFS where ref's
// host is no registry.
func (f *Fetcher) Pusher(ref locator.Reference) (*Pusher, error) {
	if f.opts.Offline {
		return nil, &kindError{fmt.Errorf("%s: offline", ref), syscall.ENETUNREACH}
	}
	r, err := f.remotes.writable(ref.Host)
	if err != nil {
		return nil, err
	}
	return &Pusher{f: f, r: r, ref: ref, chunk: uploadChunk, repos: sync.OnceValue(func() []string { return f.reposOf(ref.Locator) })}, nil
}

// writable returns the registry that is host itself.
func (r *remotes) writable(host string) (*registry, error) {
	list, err := r.endpoints(host)
	if err != nil {
		return nil, broken("host %q: %v", host, err)
	}
	to := list[len(list)-1]
	if to.Kind != locator.Registry {
		return nil, &kindError{fmt.Errorf("host %q is served by OCI layouts in %s: push to oci:DIR instead", host, to.Addr), syscall.EROFS}
	}
	t, err := r.reach(&to)
	if err != nil {
		return nil, broken("host %q: %v", host, err)
	}
	r.keep(t)
	return newRegistry(to, t, r.opts), nil
}

// Has says whether the repository has the blob or manifest desc, asking it by
// HEAD. That it has it with another size is an error.
func (p *Pusher) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := p.has(ctx, desc)
	if err != nil {
		return false, p.named(desc.Digest, err)
	}
	if there {
		p.f.record(p.ref.Locator, desc)
	}
	return there, nil
}

func (p *Pusher) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	got, err := p.head(ctx, locator.Reference{Locator: p.ref.Locator, Digest: desc.Digest}, desc)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return false, nil
	case err == nil && got.Size != desc.Size:
		err = &sizeError{p.r.to.Addr, got.Size, desc.Size}
	}
	return err == nil, err
}

// head asks for what ref names, of desc's kind.
func (p *Pusher) head(ctx context.Context, ref locator.Reference, desc ocispec.Descriptor) (got ocispec.Descriptor, err error) {
	what, accept := "blobs", []string(nil)
	if isManifest(desc.MediaType) {
		what, accept = "manifests", []string{desc.MediaType}
	}
	err = p.f.persist(ctx, func(ctx context.Context) error {
		got, err = p.r.head(writing(ctx, ""), ref, what, accept)
		return err
	})
	return got, err
}

// Upload brings the blob desc, whose bytes src has, into the repository. mounted
// says that no byte was sent: the registry took it over from another repository,
// which the store has on record as having it. told hears of the bytes that the
// registry has, or was sent; where they were in vain the number goes back. It is
// not called any more when Upload has returned.
//
// The blob goes by chunks, in an upload session. After a cut the registry is
// asked how far the session is, and that is where it goes on. A session that was
// lost is begun anew, a few times. Of a registry that does not do chunks all is
// asked at once. The upload goes to the registry's host alone: one that names
// another as the session's place is refused, syscall.EIO, be it by HTTPS or not.
func (p *Pusher) Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (mounted bool, err error) {
	u := &upload{p: p, desc: desc, src: src, from: p.mountable(desc.Digest), chunk: p.chunk, began: time.Now()}
	u.told = func(n int64) {
		u.meter.add(int(max(n-u.at.Swap(n), 0)))
		told(n)
	}
	defer p.f.uploads.begin(u)()
	if err := u.run(ctx); err != nil {
		return false, p.named(desc.Digest, err)
	}
	p.f.record(p.ref.Locator, desc)
	return u.mounted, nil
}

// PutManifest brings a manifest or index, whose bytes are b, into the repository
// under its digest. What it names must be there.
func (p *Pusher) PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	ref := locator.Reference{Locator: p.ref.Locator, Digest: desc.Digest}
	if err := p.putManifest(ctx, ref, desc, b); err != nil {
		return p.named(desc.Digest, err)
	}
	p.f.record(p.ref.Locator, desc)
	return nil
}

// Name gives the tag to a manifest or index whose bytes are b. already says that
// it has it; without a tag that is so.
func (p *Pusher) Name(ctx context.Context, desc ocispec.Descriptor, b []byte) (already bool, err error) {
	if p.ref.Tag == "" {
		return true, nil
	}
	ref := locator.Reference{Locator: p.ref.Locator, Tag: p.ref.Tag}
	got, err := p.head(ctx, ref, desc)
	already = err == nil && got.Digest == desc.Digest
	switch {
	case err != nil && !errors.Is(err, iofs.ErrNotExist):
		return false, fmt.Errorf("%s: %w", ref, err)
	case !already:
		if err := p.putManifest(ctx, ref, desc, b); err != nil {
			return false, fmt.Errorf("%s: %w", ref, err)
		}
	}
	if err := p.f.store.SetTag(repo(ref.Locator), ref.Tag, desc); err != nil && !p.f.sayFull(err) {
		p.f.opts.Log.Warn("tag not kept", "reference", ref.String(), "err", err)
	}
	return already, nil
}

// putManifest puts a manifest under ref: to do it twice is to do it once.
func (p *Pusher) putManifest(ctx context.Context, ref locator.Reference, desc ocispec.Descriptor, b []byte) error {
	return p.f.persist(ctx, func(ctx context.Context) error {
		req, err := p.r.request(writing(ctx, ""), http.MethodPut, ref, "manifests", nil)
		if err != nil {
			return err
		}
		req.Header.Del("Accept")
		req.Header.Set("Content-Type", desc.MediaType)
		req.ContentLength = int64(len(b))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		if req.Body, err = req.GetBody(); err != nil {
			return err
		}
		a, err := p.r.write(req, ref.Locator)
		if err != nil {
			return err
		}
		return a.created(desc.Digest)
	})
}

// created checks the answer to what made something of that digest.
func (a *reply) created(dgst digest.Digest) error {
	if a.code != http.StatusCreated {
		return a.err()
	}
	// Its word may be of another algorithm, which says nothing of ours.
	got := digest.Digest(a.header.Get("Docker-Content-Digest"))
	if got != "" && got != dgst && (got.Validate() != nil || got.Algorithm() == dgst.Algorithm()) {
		return broken("%s: it took %s for %q", a.at.Host, dgst, oneLine(got.String()))
	}
	return nil
}

// named is err with what it befell before it.
func (p *Pusher) named(dgst digest.Digest, err error) error {
	return fmt.Errorf("%s@%s: %w", p.ref.Locator, dgst, err)
}
