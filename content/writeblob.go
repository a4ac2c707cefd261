package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteBlob copies the blob that r reads from its beginning, or from where it stands if it is an io.Seeker, into the store.
// size is -1 and expected empty where they aren't known. A blob that is in the store already is not read.
//
// ref is the key of its ingest. What an earlier call under that key left is gone on from if r is an io.Seeker or
// an io.ReaderAt, else begun again. Where no digest is expected r is read from its beginning all the same and held against what
// is here, for nothing else would tell a mixture of two bodies; if it differs, it is begun again too.
//
// A body that is too long is a *SizeError, one too short too and also an io.ErrUnexpectedEOF; a wrong digest is a
// *MismatchError. A body too long and one that is wrong are thrown away; what was read before another error, as of a full disk
// (syscall.ENOSPC) or a reader that broke, is kept to go on from.
// Between chunks it looks whether ctx has ended; a Read that waits it can't end.
func (s *Store) WriteBlob(ctx context.Context, ref string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	if expected != "" {
		info, err := s.Stat(expected)
		switch {
		case err == nil && size >= 0 && size != info.Size:
			return none, &SizeError{Ref: strconv.Quote(ref), Want: size, Got: info.Size}
		case err == nil:
			_ = s.Abort(Expect{Ref: ref}) // what was begun is not needed; who writes it just now ends it
			return ocispec.Descriptor{MediaType: mediaTypeAny, Digest: expected, Size: info.Size}, nil
		case !errors.Is(err, iofs.ErrNotExist):
			return none, err
		}
	}
	c := &copying{r: r, base: position(r), ref: ref, size: size}
	e := Expect{Ref: ref, Digest: expected, Total: size}
	desc, err := s.writeBlob(ctx, e, c)
	if _, wrong := errors.AsType[*MismatchError](err); wrong && c.resumed {
		c.again = true // what was there before may be to blame
		desc, err = s.writeBlob(ctx, e, c)
	}
	if expected != "" && errors.Is(err, iofs.ErrExist) { // by another meanwhile
		info, err := s.Stat(expected)
		return ocispec.Descriptor{MediaType: mediaTypeAny, Digest: expected, Size: info.Size}, err
	}
	return desc, err
}

func (s *Store) writeBlob(ctx context.Context, e Expect, c *copying) (desc ocispec.Descriptor, err error) {
	g, body, off, err := c.open(ctx, s, e)
	if err != nil {
		return desc, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if _, err := g.TryOwn(); err != nil {
		return desc, err
	}
	err = c.copy(ctx, g, body, off)
	if err == nil {
		err = g.Verify()
	}
	if err == nil {
		return g.Commit()
	}
	_, wrong := errors.AsType[*MismatchError](err)
	size, ok := errors.AsType[*SizeError](err)
	if wrong || ok && size.Got > size.Want {
		err = errors.Join(err, g.Discard())
	}
	return desc, err
}

// A copying is a call of WriteBlob.
type copying struct {
	r       io.Reader
	base    int64 // where r stood, or -1
	ref     string
	size    int64
	again   bool // from the beginning once more
	resumed bool // it went on from an earlier call
}

var errNoSeek = errors.New("the reader can't go to where it is to go on from")

// open opens the ingest, and r at the offset up to which the ingest has all. If r can't go there, or is known to have had other
// bytes up to there, the ingest begins anew.
func (c *copying) open(ctx context.Context, s *Store, e Expect) (g *Ingest, body io.Reader, off int64, err error) {
	for range 2 {
		if g, err = s.Ingest(e); err != nil {
			return nil, nil, 0, err
		}
		body, off = c.seek(g)
		same := body != nil
		if same && off > 0 && g.want() == "" {
			if same, err = c.same(ctx, g, off); err != nil {
				return nil, nil, 0, errors.Join(err, g.Close())
			}
			c.again = !same
		}
		if same {
			return g, body, off, nil
		}
		err = errors.Join(g.wrap(errNoSeek), g.Discard(), g.Close())
	}
	return nil, nil, 0, err
}

// same says whether r has the n first bytes that g has. Where r is a Seeker it stands behind them then.
func (c *copying) same(ctx context.Context, g *Ingest, n int64) (bool, error) {
	var body io.Reader
	if sk, ok := c.r.(io.Seeker); ok && c.base >= 0 {
		if _, err := sk.Seek(c.base, io.SeekStart); err != nil {
			return false, g.wrap(err)
		}
		body = c.r
	} else if ra, ok := c.r.(io.ReaderAt); ok {
		body = io.NewSectionReader(ra, 0, n)
	}
	ours, theirs := make([]byte, ChunkSize), make([]byte, ChunkSize)
	for off := int64(0); off < n; off += ChunkSize {
		if err := ctx.Err(); err != nil {
			return false, g.wrap(err)
		}
		k := min(ChunkSize, n-off)
		if _, err := io.ReadFull(body, theirs[:k]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		} else if err != nil {
			return false, g.wrap(err)
		}
		if _, err := g.ReadAt(ours[:k], off); err != nil {
			return false, err
		}
		if !bytes.Equal(ours[:k], theirs[:k]) {
			return false, nil
		}
	}
	return true, nil
}

// seek returns what is to be read next and its offset in the blob. It is nil if r can't read from there.
func (c *copying) seek(g *Ingest) (io.Reader, int64) {
	at, _ := g.Missing(0, math.MaxInt64)
	off := at * ChunkSize
	if total := g.Total(); total >= 0 {
		off = min(off, total)
		c.size = total
	}
	if off == 0 && !c.again {
		return c.r, 0
	}
	if sk, ok := c.r.(io.Seeker); ok && c.base >= 0 {
		if _, err := sk.Seek(c.base+off, io.SeekStart); err == nil {
			c.resumed = off > 0
			return c.r, off
		}
	}
	if ra, ok := c.r.(io.ReaderAt); ok {
		if _, err := ra.ReadAt(make([]byte, 1), off); err == nil || errors.Is(err, io.EOF) {
			c.resumed = off > 0
			return io.NewSectionReader(ra, off, math.MaxInt64-off), off
		}
	}
	return nil, 0
}

// position returns where r stands, or -1 if it can't say.
func position(r io.Reader) int64 {
	if sk, ok := r.(io.Seeker); ok {
		if at, err := sk.Seek(0, io.SeekCurrent); err == nil {
			return at
		}
	}
	return -1
}

// copy reads body, which begins at off, a chunk's beginning or the end, into g to its end.
func (c *copying) copy(ctx context.Context, g *Ingest, body io.Reader, off int64) error {
	buf := make([]byte, ChunkSize)
	for c.size < 0 || off < c.size {
		if err := ctx.Err(); err != nil {
			return g.wrap(err)
		}
		p := buf
		if c.size >= 0 {
			p = buf[:min(ChunkSize, c.size-off)]
		}
		n, err := io.ReadFull(body, p)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		switch {
		case err != nil && !ended:
			return g.wrap(err)
		case ended && c.size >= 0:
			return fmt.Errorf("%w (%w)", &SizeError{Ref: strconv.Quote(c.ref), Want: c.size, Got: off + int64(n)}, io.ErrUnexpectedEOF)
		case ended:
			return g.put(p[:n], off, true)
		}
		if err := g.put(p, off, false); err != nil {
			return err
		}
		off += int64(n)
	}
	return c.end(body)
}

// end makes sure that body ends here.
func (c *copying) end(body io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(body, one[:]); {
	case n > 0:
		return &SizeError{Ref: strconv.Quote(c.ref), Want: c.size, Got: c.size + 1}
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("ingest %q: %w", c.ref, err)
	}
	return nil
}

// put writes p, one chunk or the rest, at off, and hashes on. last says that the blob, of unknown size, ends with it.
func (g *Ingest) put(p []byte, off int64, last bool) error {
	i := off / ChunkSize
	if len(p) > 0 && !g.Has(i, 1) {
		n, err := g.Claim(i, 1)
		if err != nil {
			return err
		}
		if n == 0 {
			return g.wrap(fmt.Errorf("chunk %d can't be claimed", i))
		}
		defer g.Release(i, 1)
		if _, err := g.WriteAt(p, off); err != nil {
			return err
		}
	}
	if last {
		if err := g.End(off + int64(len(p))); err != nil {
			return err
		}
	}
	if len(p) > 0 && !g.Has(i, 1) {
		if err := g.Done(i, 1); err != nil {
			return err
		}
	}
	if _, err := g.Advance(ChunkSize); err != nil {
		return err
	}
	if g.Due() {
		return g.Checkpoint()
	}
	return nil
}
