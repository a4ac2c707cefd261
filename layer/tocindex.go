package layer

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"syscall"
	"unsafe"
)

// A contents makes an index of the entries of a table of contents. The stream is
// all chunks in their order there; those of one file follow each other.
type contents struct {
	kind SpanKind
	end  int64 // of the chunks in the blob
	left int64 // entries that there may still be

	tree    *builder
	memory  allowance
	spans   []Span
	length  int64   // of the stream
	offsets []int64 // in the blob, of all chunks

	file chunked // whose chunks come
}

// chunked is a file whose chunks are taken one after the other.
type chunked struct {
	size, have int64
	digest     sum   // zero is not known
	end        int64 // in the blob, of its last chunk; 0 is not known
}

const (
	// maxSkip is how many decoded bytes may come before a chunk in its member: they
	// are decoded for nothing.
	maxSkip = 256 << 20
	// maxWaste bounds what is read and decoded for nothing where each chunk is read
	// by itself, in bytes for each byte of the layer and of its files.
	maxWaste = 1 << 10
)

// indexTOC returns the index of the table of contents in r, whose chunks lie in
// the blob before end.
func indexTOC(r io.Reader, format Format, end int64) (*Index, error) {
	c := &contents{kind: GzipAt, end: end, left: defaultEntries, tree: newBuilder(), memory: maxTreeBytes}
	if format == ZstdChunked {
		c.kind = ZstdAt
	}
	if err := decodeTOC(r, c.add); err != nil {
		return nil, err
	}
	if err := c.finishFile(); err != nil {
		return nil, err
	}
	c.measure()
	if err := c.waste(); err != nil {
		return nil, err
	}
	ix := &Index{View: ViewTOC, Format: format, Spans: c.spans, Length: c.length}
	var err error
	if ix.Before, err = c.tree.before(); err != nil {
		return nil, err
	}
	ix.Nodes, ix.Inodes = c.tree.finish()
	return ix, nil
}

// add takes the next entry. What a tar may not have, it may not have either.
func (c *contents) add(e *tocEntry) error {
	if c.left--; c.left < 0 {
		return &refusal{"too many entries", syscall.EFBIG}
	}
	if e.chunk {
		return c.chunk(e)
	}
	if err := c.finishFile(); err != nil {
		return err
	}
	ent, err := entry(&e.Header)
	if err != nil {
		return err
	}
	c.file = chunked{}
	if e.Typeflag == tar.TypeReg {
		c.file.size, c.file.digest = e.Size, e.digest
	}
	if ent != nil && (c.kind != GzipAt || !isLandmark(ent)) {
		if err := c.memory.add(c.tree, ent, c.place(ent)); err != nil {
			return err
		}
	}
	if c.file.size == 0 {
		return nil
	}
	return c.chunk(e)
}

// place returns where the content of an entry is to be, if it has any.
func (c *contents) place(e *Entry) place {
	switch {
	case e.Kind != File:
		return place{}
	case e.Size == 0:
		return place{digest: sha256.Sum256(nil)}
	}
	return place{offset: c.length, digest: c.file.digest}
}

// chunk takes the next chunk of the file.
func (c *contents) chunk(e *tocEntry) error {
	f := &c.file
	size := e.chunkSize
	if size == 0 {
		size = f.size - f.have
	}
	switch {
	case size <= 0 || e.chunkOffset != f.have || size > f.size-f.have:
		return &refusal{"the chunks do not make the file", syscall.EINVAL}
	case size > defaultBytes-c.length:
		return &SizeError{"files", defaultBytes}
	case e.offset < 0 || e.offset >= c.end || e.innerOffset < 0 || e.innerOffset > maxSkip:
		return &refusal{"a chunk that is not in the layer", syscall.EINVAL}
	}
	span := Span{Kind: Zeros, Out: c.length, Size: size}
	if !e.zeros {
		span.Kind, span.Off, span.Skip, span.Digest, span.Decoded = c.kind, e.offset, e.innerOffset, e.chunkDigest, true
		if span.Digest == (sum{}) && size == f.size {
			span.Digest = f.digest
		}
		if span.Digest == (sum{}) {
			return &refusal{"a chunk without a SHA-256", syscall.EINVAL}
		}
	}
	if err := c.memory.take(int64(unsafe.Sizeof(span) + unsafe.Sizeof(e.offset))); err != nil {
		return err
	}
	c.spans = append(c.spans, span)
	c.offsets = append(c.offsets, e.offset)
	c.length += size
	f.have += size
	if e.endOffset != 0 {
		f.end = e.endOffset
	}
	return nil
}

// finishFile refuses a file that lacks chunks, and gives the last one its length
// where that is told.
func (c *contents) finishFile() error {
	f := &c.file
	if f.have != f.size {
		return errors.New("the file before has not all its chunks")
	}
	if f.end == 0 || len(c.spans) == 0 {
		return nil
	}
	last := &c.spans[len(c.spans)-1]
	if last.Kind == Zeros {
		return nil
	}
	if f.end <= last.Off || f.end > c.end {
		return &refusal{"a file that does not end in the layer", syscall.EINVAL}
	}
	last.Len = f.end - last.Off
	return nil
}

// measure gives the other chunks their lengths: up to where the next one begins.
func (c *contents) measure() {
	c.offsets = append(c.offsets, c.end)
	slices.Sort(c.offsets)
	for i := range c.spans {
		s := &c.spans[i]
		if s.Kind == Zeros || s.Len != 0 {
			continue
		}
		next, _ := slices.BinarySearch(c.offsets, s.Off+1)
		s.Len = c.offsets[next] - s.Off
	}
	c.offsets = nil
}

// waste refuses chunks that take far more to read than they have.
func (c *contents) waste() error {
	most := maxSkip + maxWaste*(c.length+min(c.end, defaultBytes))
	for i := range c.spans {
		s := &c.spans[i]
		if most -= s.Skip + min(s.Len, wholeSpan); most < 0 {
			return &refusal{"its chunks lie too far within what is to be decoded for them", syscall.EFBIG}
		}
	}
	return nil
}
