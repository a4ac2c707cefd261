package fs

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"

	"github.com/opencontainers/go-digest"

	"distfs/layer"
)

// wantedSpans are the spans of a layer that its stream is to have.
type wantedSpans struct {
	span []bool
	n    int           // how many
	key  digest.Digest // of the stream: it tells them from all others
}

// wantSpans says which spans are to be kept: those that have anything but a part of a large
// file. of is the layer's digest.
func wantSpans(of digest.Digest, ix *layer.Index) wantedSpans {
	large := largeInodes(ix)
	w := wantedSpans{span: make([]bool, len(ix.Spans))}
	sum := sha256.New()
	sum.Write([]byte("stream 1 " + string(of)))
	for i := range ix.Spans {
		s := &ix.Spans[i]
		for len(large) > 0 && large[0].Offset+large[0].Size < s.Out+s.Size {
			large = large[1:]
		}
		if s.Kind == layer.Zeros || s.Large() || len(large) > 0 && large[0].Offset <= s.Out {
			continue
		}
		w.span[i] = true
		w.n++
		b := []byte{byte(s.Kind), s.Bits, 0}
		if s.Decoded {
			b[2] = 1
		}
		for _, n := range []int64{s.Off, s.Len, s.Skip, s.Out, s.Size} {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
		sum.Write(append(b, s.Digest[:]...))
	}
	w.key = digest.NewDigest(digest.SHA256, sum)
	return w
}

// largeInodes are the files that are kept by themselves, in the order of the stream.
func largeInodes(ix *layer.Index) []*layer.Inode {
	var large []*layer.Inode
	for _, ino := range ix.Inodes.All() {
		if ino.Kind == layer.File && ino.Size >= passFrom && ino.Data() == nil && ino.Digest != [32]byte{} {
			large = append(large, ino)
		}
	}
	sort.Slice(large, func(i, j int) bool { return large[i].Offset < large[j].Offset })
	return large
}
