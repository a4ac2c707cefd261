package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/layer"
	"distfs/locator"
)

// A layerFiles is a layer of a repository: its index, which is loaded or made once,
// and what its files are read by.
type layerFiles struct {
	s      *server
	key    layerKey
	loc    locator.Locator
	desc   ocispec.Descriptor
	blob   *layerBlob
	diffID func(context.Context) (digest.Digest, error) // of the tar, as the config has it; "" is not known

	making  flight[*layer.Index]
	harvest harvest
	toc     tocCheck
	proven  proven

	mu      sync.Mutex
	index   *layer.Index   // nil until it is there; guarded by mu
	content *layer.Content // the same; guarded by mu
	stream  *layerStream   // the same; guarded by mu
	after   int            // how many misses begin a harvest; guarded by mu
}

// layer returns what the mount knows of a layer.
func (s *server) layer(loc locator.Locator, desc ocispec.Descriptor, diffID func(context.Context) (digest.Digest, error)) *layerFiles {
	k := layerKey{objectKey{loc, desc.Digest}, layer.TOCName(desc.Annotations)}
	s.layers.mu.Lock()
	defer s.layers.mu.Unlock()
	if l, ok := s.layers.recent.get(k); ok {
		return l
	}
	l := &layerFiles{s: s, key: k, loc: loc, desc: desc, blob: newLayerBlob(s, loc, desc), diffID: diffID}
	s.layers.recent.put(k, l, 1)
	return l
}

// A layerKey is a layer as a descriptor has it: one may vouch for a table of contents,
// and another not.
type layerKey struct {
	objectKey
	toc string
}

// layers are what is remembered of layers beyond the life of their trees.
type layers struct {
	mu     sync.Mutex // so that there is one of each
	recent *recent[layerKey, *layerFiles]
	spans  *layer.Cache
}

const (
	// layerBudget is for how many names, over all layers, indexes are remembered
	// that nobody uses at present.
	layerBudget = 1 << 18
	// spanBudget is how many bytes of decompressed layers are kept for who reads on
	// in them.
	spanBudget = 24 << 20
)

// close lets go of the layers that are open.
func (ls *layers) close() {
	for _, l := range ls.recent.collect(func(layerKey) bool { return true }) {
		l.blob.object.end()
		if st := l.keeper(); st != nil {
			st.whole.end()
		}
	}
}

// get returns the index, made if need be.
func (l *layerFiles) get(ctx context.Context) (*layer.Index, error) {
	if ix := l.held(); ix != nil {
		return ix, nil
	}
	if err := l.bad(); err != nil {
		return nil, err
	}
	return l.making.do(ctx, &l.s.tasks, func(ctx context.Context) (*layer.Index, error) {
		if ix := l.held(); ix != nil {
			return ix, nil
		}
		ix, err := l.load(ctx)
		if err == nil {
			ix, err = l.checked(ctx, ix)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.desc.Digest, l.s.lacking(err))
		}
		l.hold(ix)
		return ix, nil
	})
}

func (l *layerFiles) held() *layer.Index {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index
}

func (l *layerFiles) hold(ix *layer.Index) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index = ix
	l.stream = newLayerStream(l.s, l.desc.Digest, ix)
	l.after = harvestAfter
	if !l.stream.fits {
		l.after = 1
	}
	l.content = layer.NewContent(ix, l.blob, string(l.desc.Digest), l.s.layers.spans)
	l.content.KeepIn(l.stream)
	l.s.layers.recent.put(l.key, l, len(ix.Nodes))
}

// keeper returns what keeps the layer's small files together, once the index is there.
func (l *layerFiles) keeper() *layerStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream
}

// reader returns what the layer's files are read by, once the index is there.
func (l *layerFiles) reader() *layer.Content {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content
}

// openFile opens the content of a file of the layer, whose index is there: as an
// object of its own, known by its digest, or where that is not known as a part.
func (l *layerFiles) openFile(ctx context.Context, ino *layer.Inode) (Object, error) {
	l.check()
	if err := l.bad(); err != nil {
		return nil, err
	}
	part := layerPart{l.blob, l.reader(), ino}
	if ino.Digest == ([32]byte{}) {
		return partObject{part}, nil
	}
	open := func(content Content) (Object, error) {
		return l.s.src.OpenFile(ctx, l.loc, l.desc.Digest, ocispec.Descriptor{Digest: contentDigest(ino), Size: ino.Size}, content)
	}
	if l.held().View == layer.ViewTar {
		return open(part)
	}
	return l.proven.object(ctx, part, open)
}

// contentDigest is the digest of a file's content.
func contentDigest(ino *layer.Inode) digest.Digest {
	return digest.NewDigestFromBytes(digest.SHA256, ino.Digest[:])
}

// load returns the index that is kept, else makes one, when it is its turn: who had it
// before, here or in another process, may have made it meanwhile.
func (l *layerFiles) load(ctx context.Context) (*layer.Index, error) {
	if ix, _, err := l.kept(ctx); ix != nil || err != nil {
		return ix, err
	}
	if l.s.quiet {
		return nil, errNotHeld
	}
	done, err := l.s.src.IndexTurn(ctx, l.loc, l.desc.Digest)
	if err != nil {
		return nil, err
	}
	defer done()
	ix, unfit, err := l.kept(ctx)
	if ix != nil || err != nil {
		return ix, err
	}
	if unfit != nil {
		l.s.log.Warn("the kept index is made anew", "layer", l.desc.Digest, "err", unfit)
	}
	return l.make(ctx)
}

// make makes the index of the layer's table of contents, else by reading all of the
// layer, and has it kept.
func (l *layerFiles) make(ctx context.Context) (*layer.Index, error) {
	if !l.s.opts.DistrustTOC && layer.HasTOC(l.desc.Annotations) {
		ix, err := layer.ReadTOC(ctx, tocBlob{l}, l.desc.Annotations)
		if err == nil {
			l.keep(ix)
			return ix, nil
		}
		toc, ok := errors.AsType[*layer.TOCError](err)
		if !ok {
			return nil, err
		}
		l.s.log.Warn("the table of contents does not count", "locator", l.loc.String(), "layer", l.desc.Digest, "err", toc)
	}
	ix, err := l.scan(ctx, l.desc.Annotations[layer.AnnotationTOC])
	if hasNoTOC(err) { // it is no eStargz, and all in it are files
		ix, err = l.scan(ctx, "")
	}
	if err == nil {
		err = l.compareDiffID(ctx, ix)
	}
	if err != nil {
		return nil, err
	}
	l.keep(ix)
	return ix, nil
}

// kept returns the index that the store has, nil if it has none, or says why that one
// is unfit. Where another repository's layer made it, this one is asked whether it has
// the layer too.
func (l *layerFiles) kept(ctx context.Context) (ix *layer.Index, unfit, err error) {
	b, err := l.s.src.LayerIndex(l.desc.Digest)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil, nil
	}
	if err == nil {
		own, is := bytes.CutPrefix(b, l.s.keptHead(l.desc))
		if ix, err = layer.DecodeIndex(own); !is {
			err = errAnothers
		}
	}
	if err != nil {
		return nil, err, nil
	}
	return ix, nil, l.answered(ctx)
}

// answered returns nil once the repository has answered for the layer.
func (l *layerFiles) answered(ctx context.Context) error {
	if _, known := l.s.src.Known(l.loc, l.desc.Digest); known {
		return nil
	}
	_, err := l.s.src.Stat(ctx, l.loc, ocispec.Descriptor{Digest: l.desc.Digest, MediaType: l.desc.MediaType, URLs: l.desc.URLs})
	return err
}

// keptHead is what the kept form of an index begins with here: an index does not say
// of which layer it is, nor by whose word its table of contents counts, nor that none
// was to count.
func (s *server) keptHead(desc ocispec.Descriptor) []byte {
	toc := layer.TOCName(desc.Annotations)
	if s.opts.DistrustTOC && layer.HasTOC(desc.Annotations) {
		toc = "without " + toc
	}
	return []byte(string(desc.Digest) + " " + toc + "\n")
}

var errAnothers = errors.New("it is that of another layer, of another descriptor of it, or otherwise trusted")

// keep has the store keep the index. That it can't is no reason not to go on.
func (l *layerFiles) keep(ix *layer.Index) {
	err := l.s.src.KeepLayerIndex(l.desc.Digest, func(w io.Writer) error {
		if _, err := w.Write(l.s.keptHead(l.desc)); err != nil {
			return err
		}
		return ix.Encode(w)
	})
	if err != nil {
		l.s.log.Warn("the index is not kept", "layer", l.desc.Digest, "err", err)
	}
}
