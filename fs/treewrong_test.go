package fs_test

import (
	"bytes"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testlayer"
)

// flipped is b with another byte in the midst of it.
func flipped(b []byte) []byte {
	other := slices.Clone(b)
	other[len(b)/2] ^= 0xff
	return other
}

// TestWrongBytesOfLayer wants bytes of a layer that do not have its digest, as what an
// ingest of before can have, to be fetched anew and not to be an error: where the layer
// can't be read by them, and where they are another layer.
func TestWrongBytesOfLayer(t *testing.T) {
	right := testlayer.Tar(t, testlayer.Reg("a", "right\n"))
	for name, c := range map[string]struct{ first, then packed }{
		"no gzip": {first: packed{blob: flipped(testlayer.Gzip(t, right))}, then: packed{ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, right), nil}},
		"other":   {first: packed{blob: bytes.Replace(right, []byte("right"), []byte("wrong"), 1)}, then: packed{ocispec.MediaTypeImageLayer, right, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t)
			im := addFiles(t, src, c.then)
			im.layers[0].edit(func(b *blob) { b.content, b.next = c.first.blob, b.content })
			m := mountSource(t, src, nil)
			m.wantFile(im.dir+"/rootfs/a", []byte("right\n"))
		})
	}
}

// TestWrongBytesOfFile wants the same of what a file is read from, by an index that is
// kept.
func TestWrongBytesOfFile(t *testing.T) {
	for name, l := range map[string]packed{
		"tar":     gzipped(t, testlayer.Reg("a", string(content(1, 100_000)))),
		"eStargz": estargz(t, testlayer.Reg("a", string(content(1, 100_000)))),
		"large":   gzipped(t, testlayer.Reg("a", string(content(1, 3<<20)))),
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t)
			im := addFiles(t, src, l)
			mountSource(t, src, nil).list(im.dir + "/rootfs")
			b := im.layers[0]
			b.lose()
			b.edit(func(b *blob) { b.content, b.next = flipped(b.content), b.content })
			m := mountSource(t, src, nil)
			path := im.dir + "/rootfs/a"
			m.wantFile(path, content(1, int(m.stat(m.path(path)).Size)))
			b.edit(func(b *blob) {
				if b.next != nil {
					t.Error("nobody found out that the bytes were wrong")
				}
			})
		})
	}
}
