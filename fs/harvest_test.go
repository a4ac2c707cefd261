package fs_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
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

// numbered has n files of a layer, each of which says its number.
func numbered(n int) (entries []testlayer.File) {
	for i := range n {
		entries = append(entries, testlayer.Reg(fmt.Sprintf("f%03d", i), fmt.Sprintln(i)))
	}
	return entries
}

const many = 2000 // files, of which a harvest begins after two dozen

// A walk reads numbered files of an image one after the other: what was read the kernel
// has.
type walk struct {
	m    *mount
	im   files
	next int
}

// until reads on until it is so, and waits then: what goes on beside need not be done.
func (w *walk) until(is func() bool) {
	w.m.tb.Helper()
	for ctx := within(w.m.tb, timeLimit); !is(); {
		if ctx.Err() != nil {
			w.m.tb.Fatalf("it does not come to that, after %d files", w.next)
		}
		if w.next < many {
			w.m.wantFile(fmt.Sprintf("%s/rootfs/f%03d", w.im.dir, w.next), []byte(fmt.Sprintln(w.next)))
			w.next++
		}
	}
}

// read reads n more.
func (w *walk) read(n int) {
	w.m.tb.Helper()
	end := w.next + n
	w.until(func() bool { return w.next == end })
}

// TestHarvestTogether has mounts of one store read all of a layer while another process
// has what it decodes to kept: they find it when that is done, and soon.
func TestHarvestTogether(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, gzipped(t, numbered(many)...))
	one, other := walk{m: mountSource(t, src, nil), im: im}, walk{m: mountSource(t, src, nil), im: im}
	refused := func() int { return src.streams.count(func(st *streams) int { return st.refused }) }
	src.streams.set(func(st *streams) { st.busy = true }) // another process makes it
	other.until(func() bool { return refused() > 1 })
	src.streams.set(func(st *streams) { st.busy = false })
	one.until(func() bool { return src.streamsKept() > 0 })
	opened := func() int { return src.streams.count(func(st *streams) int { return st.opened }) }
	before := opened()
	other.until(func() bool { return opened() > before })
	other.read(10)
}

// TestHarvestOnFullDisk leaves nothing of what it can't go on with, before the rest of the
// layer has come, and who reads reads on.
func TestHarvestOnFullDisk(t *testing.T) {
	src := newSource(t)
	noise := make([]byte, 4*mib)
	rand.NewChaCha8([32]byte{}).Read(noise)
	im := addFiles(t, src, estargz(t, append(numbered(60), testlayer.Reg("large", string(noise)))...))
	layer := im.layers[0].gate()
	src.streams.set(func(st *streams) { st.full = syscall.ENOSPC })
	m := mountSource(t, src, nil)
	var reads sync.WaitGroup
	for i := range 30 {
		_, wait := start[Repeat, int64](m.agent, "Cat", Repeat{m.path(fmt.Sprintf("%s/rootfs/f%03d", im.dir, i)), 1})
		reads.Go(func() {
			if err := wait(); err != nil {
				t.Error(err)
			}
		})
	}
	layer.waitFor(t, func(b *blob) bool { return b.verifying > 0 }) // the harvest has begun
	layer.release(0, 1)
	reads.Wait()
	for ctx := within(t, timeLimit); src.streams.count(func(st *streams) int { return st.gone }) == 0; {
		if ctx.Err() != nil {
			t.Fatal("what can't be gone on with is still there")
		}
	}
	(&walk{m: m, im: im}).read(60)
}

// TestEvictedStream reads on where what was kept of a layer is no more, and keeps it anew.
func TestEvictedStream(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, gzipped(t, numbered(many)...))
	kept := func() bool { return src.streamsKept() > 0 }
	first := walk{m: mountSource(t, src, nil), im: im}
	first.until(kept)
	opened := func() int { return src.streams.count(func(st *streams) int { return st.opened }) }
	before := opened()
	w := walk{m: mountSource(t, src, nil), im: im}
	if w.read(1); opened() == before {
		t.Error("the next mount does not read from what is kept")
	}
	src.evictStreams(t)
	w.read(100) // of what it still has open
	w = walk{m: mountSource(t, src, nil), im: im}
	w.until(kept)
	w.read(10)
}
