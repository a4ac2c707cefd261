package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/readahead"
	"github.com/opencontainers/go-digest"
)

// What a layer may make an Index and its reader take, however little it is.
const (
	maxHoles    = 64 << 20 // holes of one file that are hashed, in bytes, and
	maxHolesAll = 1 << 30  // those of all files; a file with more has no Digest
)

// MakeIndex reads a layer once, from its first byte in r to its last, and
// returns what it has. It decompresses beside what it does itself. The caller
// holds r against the layer's digest.
//
// The errors are those of NewReader and Reader.Next, and syscall.EFBIG for a tree
// that takes more than a GiB. When ctx ends, so does the work after the Read of r
// that is under way.
func MakeIndex(ctx context.Context, r io.Reader, opts *Options) (*Index, error) {
	var w *window
	if opts != nil && opts.Cache != nil {
		w = opts.Cache.window()
		w.use(opts.GiveUp)
		defer w.release()
	}
	r = until(ctx, r)
	in := bufio.NewReaderSize(reading(func(p []byte) (int, error) {
		return w.reading(func() (int, error) { return r.Read(p) })
	}), aheadSize)
	format, err := sniff(in)
	if err != nil {
		return nil, err
	}
	spans := newCutter()
	plain := cutting(in, format, spans, w, w.growing(ctx))
	pass := pass{tree: newBuilder(), diff: sha256.New(), sum: sha256.New(), holes: maxHolesAll, memory: maxTreeBytes}
	if err := pass.read(until(ctx, plain), opts); err != nil { // of which there can be much without a Read of r
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	ix := &Index{View: ViewTar, Format: format, DiffID: digest.NewDigest(digest.SHA256, pass.diff), Length: pass.length}
	ix.Spans = spans.finish(pass.length)
	if ix.Before, err = pass.tree.before(); err != nil {
		return nil, err
	}
	ix.Nodes, ix.Inodes = pass.tree.finish()
	return ix, nil
}

// reading is an io.Reader.
type reading func(p []byte) (int, error)

func (f reading) Read(p []byte) (int, error) { return f(p) }

// until is r as long as ctx lasts.
func until(ctx context.Context, r io.Reader) io.Reader {
	return reading(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// A pass is the way through a layer's tar.
type pass struct {
	tree   *builder
	diff   hash.Hash // of the tar
	sum    hash.Hash // of the file at hand
	buf    [64 << 10]byte
	length int64 // of the tar

	holes  int64     // that may still be hashed
	memory allowance // that may still be taken
}

// read reads the tar in plain, of which another goroutine reads ahead until read
// returns.
func (p *pass) read(plain io.Reader, opts *Options) error {
	ahead, err := readahead.NewReaderSize(plain, aheadBuffers, aheadSize)
	if err != nil {
		return err
	}
	own := Options{}
	if opts != nil {
		own = *opts
	}
	own.Tar = p.diff
	if opts != nil && opts.Tar != nil {
		own.Tar = io.MultiWriter(p.diff, opts.Tar)
	}
	r := newReader(ahead, &own)
	defer r.Close()
	for {
		e, err := r.Next()
		if err == io.EOF { //nolint:errorlint // wrapped it is no end
			p.length = r.all.most - r.all.left
			return nil
		}
		if err == nil {
			err = p.entry(r, e)
		}
		if err != nil {
			return err
		}
	}
}

// entry takes over the entry that r is at.
func (p *pass) entry(r *Reader, e *Entry) error {
	var at place
	var err error
	if e.Kind == File {
		at = place{offset: r.at.offset, data: r.at.data}
		at.digest, err = p.digest(r, e.Size)
	}
	if err == nil {
		err = p.memory.add(p.tree, e, at)
	}
	if err != nil {
		return fmt.Errorf("entry %.200q: %w", e.Name, err)
	}
	return nil
}

// digest returns the SHA-256 of the content that r is at, and zero where it has too
// many holes.
func (p *pass) digest(r *Reader, size int64) (sum [sha256.Size]byte, err error) {
	if r.at.data != nil {
		holes := size
		for _, s := range r.at.data {
			holes -= s.Length
		}
		if holes > maxHoles || holes > p.holes {
			return sum, nil
		}
		p.holes -= holes
	}
	p.sum.Reset()
	n, err := io.CopyBuffer(p.sum, reading(r.Read), p.buf[:])
	if err == nil && n != size {
		err = errors.New("the content ends early")
	}
	p.sum.Sum(sum[:0])
	return sum, err
}
