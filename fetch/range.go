package fetch

import (
	"context"
	"fmt"
	"io"
	iofs "io/fs"

	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Range reads len(b) bytes of desc from off on, fewer only at its end, with io.EOF:
// for who reads a table of contents, and then perhaps nothing else of the blob. What
// is here of it for loc's readers is read from there; else one request asks for
// just this range, and what it brings is not kept. By an answer loc's repository has
// answered for desc. The bytes are what the transport delivered, and no more.
func (f *Fetcher) Range(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (int, error) {
	n, err := f.readRange(ctx, loc, desc, b, off)
	if err != nil && err != io.EOF { //nolint:errorlint // it stands alone
		err = fmt.Errorf("%s@%s: %w", loc, desc.Digest, err)
	}
	return n, err
}

func (f *Fetcher) readRange(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (int, error) {
	_, recorded := f.answered(loc, desc.Digest)
	if unknownSize(desc) {
		known, err := f.vouched(ctx, loc, desc)
		if err != nil {
			return 0, err
		}
		desc.Size, recorded = known.Size, true
	}
	var end error
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, iofs.ErrInvalid)
	}
	if left := max(desc.Size-off, 0); int64(len(b)) > left {
		b, end = b[:left], io.EOF
	}
	if len(b) == 0 {
		return 0, end
	}
	if recorded && f.holds(loc, desc.Digest) {
		if n, err := f.rangeHere(ctx, loc, desc, b, off); n == len(b) && err == nil {
			return n, end
		}
	}
	if f.opts.Offline {
		if !recorded {
			return 0, fmt.Errorf("offline: %w", iofs.ErrNotExist)
		}
		return 0, absent(off)
	}
	n, err := f.askRange(ctx, loc, desc, b, off)
	if err != nil {
		return n, err
	}
	return n, end
}

// rangeHere reads what is here, and nothing if some of it is not.
func (f *Fetcher) rangeHere(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (int, error) {
	p, err := f.pull(loc, desc, true)
	if err != nil {
		return 0, err
	}
	defer p.leave()
	s := chunksOf(off, int64(len(b)))
	p.mu.Lock()
	err = p.needOpen(ctx)
	here := err == nil && (p.file != nil || p.serves(s))
	p.mu.Unlock()
	if !here {
		return 0, err
	}
	return p.readAt(ctx, b, off)
}

// askRange asks for the range until it has it.
func (f *Fetcher) askRange(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (int, error) {
	remote, err := f.remotes.of(loc.Host)
	if err != nil {
		return 0, err
	}
	got, patience := 0, newPatience(f.opts.Timeout)
	for patience.bulk = f.opts.Bulk; ; {
		n, whole, err := f.tryRange(ctx, remote, loc, desc, b[got:], off+int64(got))
		got += n
		switch {
		case whole:
			return f.readObject(ctx, loc, desc, b, off)
		case err == nil && got == len(b):
			return got, nil
		case err == nil:
			err = io.ErrUnexpectedEOF
		}
		if n >= progressMin {
			patience.renew()
		}
		if d, ok := patience.pause(ctx, err); !ok || !sleep(ctx, d) {
			return got, err
		}
	}
}

// tryRange asks once, on one of the host's connections. It says that the remote
// gave the whole instead, of which nothing was read.
func (f *Fetcher) tryRange(ctx context.Context, remote Remote, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (n int, whole bool, err error) {
	f.limits.regain(ctx, loc.Host)
	defer f.limits.release(loc.Host, false)
	ctx, moved, stop := f.patient(ctx)
	defer stop()
	body, err := remote.Get(ctx, loc, desc, off, int64(len(b)))
	if err != nil {
		return 0, false, kind(ctx, err)
	}
	defer body.Close()
	if _, ok := f.answered(loc, desc.Digest); !ok {
		f.record(loc, desc)
	}
	if body.Offset != off {
		return 0, true, nil
	}
	n, err = io.ReadFull(movingReader{io.LimitReader(body, body.Len), moved}, b)
	if err != nil {
		err = kind(ctx, err)
	}
	return n, false, err
}

// readObject reads a range of what is to be had as a whole only, and so is kept.
func (f *Fetcher) readObject(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, b []byte, off int64) (int, error) {
	o, err := f.Open(ctx, loc, desc)
	if err != nil {
		return 0, err
	}
	defer o.Close()
	if err := o.p.wait(ctx, off, int64(len(b))); err != nil {
		return 0, err
	}
	return o.p.readAt(ctx, b, off)
}
