package fs_test

import (
	"fmt"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testlayer"
)

// TestHarvest wants all that a layer decodes to to be kept once many of its files were
// read: then nobody opens one, nor the layer.
func TestHarvest(t *testing.T) {
	src := newSource(t)
	var entries []testlayer.File
	for i := range 200 {
		entries = append(entries, testlayer.Reg(fmt.Sprintf("f%03d", i), fmt.Sprintln(i)))
	}
	im := addFiles(t, src, gzipped(t, entries...))
	m := mountSource(t, src, nil)
	run(t, "cat", m.path(im.dir+"/rootfs/f000"))
	if n := src.filesKept(); n != 1 {
		t.Errorf("by one that was read %d files are kept, want 1", n)
	}
	run(t, "sh", "-c", "cat "+m.path(im.dir+"/rootfs")+"/f0[0-4]*")
	ctx := within(t, timeLimit)
	for src.streamsKept() == 0 {
		if ctx.Err() != nil {
			t.Fatal("what the layer decodes to is not kept, after 50 files of 200 were read")
		}
	}
	kept := src.filesKept()
	for i := range 200 {
		m.wantFile(fmt.Sprintf("%s/rootfs/f%03d", im.dir, i), []byte(fmt.Sprintln(i)))
	}
	if n := src.filesKept(); n != kept {
		t.Errorf("%d files were kept one by one, %d before", n, kept)
	}
}

// TestHarvestOfStream wants all files of a layer that is decompressed from its start to
// be kept once one was read.
func TestHarvestOfStream(t *testing.T) {
	src := newSource(t)
	var entries []testlayer.File
	for i := range 100 {
		entries = append(entries, testlayer.Reg(fmt.Sprintf("f%03d", i), string(content(byte(i), 100_000))))
	}
	im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerZstd, testlayer.Zstd(t, testlayer.Tar(t, entries...)), nil})
	m := mountSource(t, src, nil)
	m.wantFile(im.dir+"/rootfs/f050", content(50, 100_000))
	ctx := within(t, timeLimit)
	for src.filesKept() < 100 {
		if ctx.Err() != nil {
			t.Fatalf("of 100 files %d are kept", src.filesKept())
		}
	}
	m.wantFile(im.dir+"/rootfs/f001", content(1, 100_000))
}

// TestHarvestOfStuck has far more readers wait for a layer of which nothing comes than
// there is memory for replies, and others read all the same.
func TestHarvestOfStuck(t *testing.T) {
	src := newSource(t)
	var entries []testlayer.File
	const small, large = 24, 96 // files
	for i := range small + large {
		n := 10
		if i >= small {
			n = 512 << 10
		}
		entries = append(entries, testlayer.Reg(fmt.Sprintf("f%03d", i), string(content(byte(i), n))))
	}
	im, other := addFiles(t, src, estargz(t, entries...)), addFiles(t, src, gzipped(t, testlayer.Reg("a", "a\n")))
	stuck := im.layers[0].gate()
	m := mountSource(t, src, nil)
	var reads sync.WaitGroup
	cat := func(i int) {
		_, wait := start[Repeat, int64](m.agent, "Cat", Repeat{m.path(fmt.Sprintf("%s/rootfs/f%03d", im.dir, i)), 1})
		reads.Go(func() {
			if err := wait(); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range small {
		cat(i)
	}
	stuck.waitFor(t, func(b *blob) bool { return b.verifying > 0 }) // the harvest has begun
	for i := range large {
		cat(small + i)
	}
	stuck.waitFor(t, func(b *blob) bool { return b.waiting >= large })
	m.wantFile(other.dir+"/rootfs/a", []byte("a\n"))
	stuck.edit(func(b *blob) { b.gated = false })
	reads.Wait()
}
