package fs_test

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"distfs/image"

	"distfs/internal/testlayer"
)

// TestMisplacedIndex does not take the index of one layer for that of another, under
// whose name it is kept.
func TestMisplacedIndex(t *testing.T) {
	src := newSource(t)
	good := addFiles(t, src, gzipped(t, testlayer.Reg("a", "good\n")))
	bad := addFiles(t, src, gzipped(t, testlayer.Reg("a", "bad\n")))
	m := mountSource(t, src, nil)
	m.wantFile(bad.dir+"/rootfs/a", []byte("bad\n"))
	src.set(func(s *source) { s.indexes[good.layers[0].desc.Digest] = s.indexes[bad.layers[0].desc.Digest] })
	m.wantFile(good.dir+"/rootfs/a", []byte("good\n"))
	if log := m.log.String(); !strings.Contains(log, "the kept index is made anew") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}

// TestLargeAttributes leaves out extended attributes that the kernel does not pass on,
// so that the others can be read.
func TestLargeAttributes(t *testing.T) {
	src := newSource(t)
	large, many := testlayer.Reg("large", ""), testlayer.Reg("many", "")
	large.PAXRecords = map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 70_000), "SCHILY.xattr.user.b": "small"}
	many.PAXRecords = make(map[string]string)
	for i := range 8000 {
		many.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.%06d", i)] = "x"
	}
	im := addFiles(t, src, gzipped(t, large, many))
	m := mountSource(t, src, nil)
	for path, want := range map[string]int{"large": 1, "many": 5400} {
		got, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(im.dir + "/rootfs/" + path), ""})
		if n := strings.Count(got, "user."); err != nil || n < want {
			t.Errorf("%s: %d attributes are listed, %v, want %d", path, n, err, want)
		}
	}
}

// TestLinkToNothing wants a hard link to what the image has not to be an error, as it is
// to unpacking, and all else to be as it would be without it.
func TestLinkToNothing(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src,
		gzipped(t, testlayer.Reg("a", "a\n"), testlayer.Dir("d"), testlayer.Link("gone", "no"), testlayer.Link("hidden", "no")),
		gzipped(t, testlayer.Link("d/h", "no/where"), testlayer.Link("dir", "d"), testlayer.Reg("hidden", "seen\n"), testlayer.Link("good", "a")))
	m := mountSource(t, src, nil)
	root := im.dir + "/rootfs"
	if got, want := m.list(root), []string{"a", "d", "dir", "gone", "good", "hidden"}; !slices.Equal(got, want) {
		t.Errorf("the root has %q, want %q", got, want)
	}
	for _, name := range []string{"gone", "d/h", "dir"} {
		if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(root+"/"+name)); !errors.Is(err, syscall.EIO) {
			t.Errorf("stat %s = %v, want %v", name, err, syscall.EIO)
		}
		if log := m.log.String(); !strings.Contains(log, root+"/"+name) {
			t.Errorf("the log does not say that %s is one:\n%s", name, log)
		}
	}
	m.wantFile(root+"/hidden", []byte("seen\n"))
	m.wantFile(root+"/good", []byte("a\n"))
}

// TestHugeManifest does not fetch a manifest of 100 MB. It is an object as any other.
func TestHugeManifest(t *testing.T) {
	src := newSource(t)
	good := addFiles(t, src, gzipped(t, testlayer.Reg("a", "good\n")))
	huge := src.add(repo, ocispec.MediaTypeImageManifest, make([]byte, 100_000_000))
	m := mountSource(t, src, nil)
	dir := repo + "@" + string(huge.desc.Digest)
	for _, path := range []string{"/rootfs/a", "/layers/0", "/files/a"} {
		if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(dir+path)); !errors.Is(err, syscall.EIO) {
			t.Errorf("stat %s = %v, want %v", path, err, syscall.EIO)
		}
	}
	if log := m.log.String(); !strings.Contains(log, string(huge.desc.Digest)) || !strings.Contains(log, "100000000 bytes") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	huge.edit(func(b *blob) {
		if b.file != nil || len(b.arrived) > 0 {
			t.Error("it was fetched")
		}
	})
	m.wantFile(good.dir+"/rootfs/a", []byte("good\n"))
}

// TestTooManyLayers refuses the tree of an image of ten thousand layers before it asks
// for any of them; what else the image has is there, and so are other images.
func TestTooManyLayers(t *testing.T) {
	src := newSource(t)
	one := gzipped(t, testlayer.Reg("a", "one\n"))
	most := addFiles(t, src, slices.Repeat([]packed{one}, image.MaxLayers)...)
	many := addFiles(t, src, slices.Repeat([]packed{one}, 10_000)...)
	m := mountSource(t, src, nil)
	m.wantFile(most.dir+"/rootfs/a", []byte("one\n"))
	src.requests()
	for _, path := range []string{many.dir + "/rootfs/a", many.dir + "/layers/0/a", many.dir + "/layers/9999/a"} {
		if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(path)); !errors.Is(err, syscall.EIO) {
			t.Errorf("stat %s = %v, want %v", path, err, syscall.EIO)
		}
	}
	if log := m.log.String(); !strings.Contains(log, string(many.manifest.desc.Digest)+" has 10000 layers") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	if got := src.requests(); slices.ContainsFunc(got, func(what string) bool { return !strings.Contains(what, string(many.manifest.desc.Digest)) }) {
		t.Errorf("asked for %q, want the manifest alone", got)
	}
	if got, want := m.list(many.dir), []string{"config.json", "layers", "manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
	if got := m.list(many.dir + "/layers"); len(got) != 10_000 {
		t.Errorf("layers has %d names, want a link for each layer and no tree", len(got))
	}
	m.wantFile(many.dir+"/layers/9999.tar.gz", one.blob)
}

// TestWrongChunk wants a chunk that has not the digest that its table of contents says to
// be an error that the log explains, and the rest of that layer to be read.
func TestWrongChunk(t *testing.T) {
	src := newSource(t)
	good, evil := testlayer.Gzip(t, []byte("good\n")), testlayer.Gzip(t, []byte("evil\n"))
	entry := func(name string, off int, content string) string {
		return fmt.Sprintf(`{"name":%q,"type":"reg","size":5,"mode":420,"offset":%d,"digest":%q,"chunkDigest":%[3]q}`, name, off, digestOf([]byte(content)))
	}
	toc := fmt.Sprintf(`{"version":1,"entries":[%s,%s]}`, entry("good", 0, "good\n"), entry("wrong", len(good), "best\n"))
	b, annotations := testlayer.WithEStargzTOC(t, append(good, evil...), []byte(toc), 0)
	im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, annotations})
	m := mountSource(t, src, nil)
	if got, err := m.read(m.path(im.dir + "/rootfs/wrong")); !errors.Is(err, syscall.EIO) || len(got) > 0 {
		t.Errorf("what has another digest is read as %q, %v, want EIO", got, err)
	}
	if log := m.log.String(); !strings.Contains(log, "rootfs/wrong") || !strings.Contains(log, "errno=EIO") {
		t.Errorf("the log does not say which file:\n%s", log)
	}
	m.wantFile(im.dir+"/rootfs/good", []byte("good\n"))
}

// TestVastFile reads from a file of a terabyte that is nothing but holes.
func TestVastFile(t *testing.T) {
	const size = 1_000_000_000_000
	src := newSource(t)
	base256 := func(n uint64) string {
		return "\x80\x00\x00\x00" + string(binary.BigEndian.AppendUint64(nil, n))
	}
	hdr := testlayer.Raw("vast", 'S', map[int]string{
		124: "00000000005\x00", 257: "ustar  \x00", 386: base256(size/2) + "00000000005\x00", 483: base256(size),
	})
	b := append(append(hdr, "there"...), make([]byte, 507)...)
	im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, append(b, testlayer.Tar(t, testlayer.Reg("a", "a\n"))...)), nil})
	for _, m := range []*mount{mountSource(t, src, nil), mountImage(t, src, im)} {
		dir := ""
		if slices.Contains(m.list(), "reg.example") {
			dir = im.dir + "/rootfs/"
		}
		if st := m.stat(m.path(dir + "vast")); st.Size != size {
			t.Errorf("it has %d bytes, want %d", st.Size, size)
		}
		for off, want := range map[int64]string{0: "\x00\x00\x00\x00", size/2 - 2: "\x00\x00there\x00", size - 2: "\x00\x00"} {
			got, err := call[Range, []byte](m.agent, "Read", Range{m.path(dir + "vast"), off, len(want)})
			if err != nil || string(got) != want {
				t.Errorf("at %d it has %q, %v, want %q", off, got, err, want)
			}
		}
		m.wantFile(dir+"a", []byte("a\n"))
	}
}

// TestLargeDirectory lists a directory of 100,000 files, and finds each of them.
func TestLargeDirectory(t *testing.T) {
	many := 100_000
	if raceEnabled {
		many = 10_000
	}
	src := newSource(t)
	files := make([]testlayer.File, many)
	want := make([]string, many)
	for i := range files {
		want[i] = fmt.Sprintf("%06d", i)
		files[i] = testlayer.Reg("many/"+want[i], "")
		files[i].Format = tar.FormatUSTAR
		files[i].ModTime = testlayer.Time.Truncate(1e9)
	}
	im := addFiles(t, src, gzipped(t, files...))
	for _, m := range []*mount{mountSource(t, src, nil), mountImage(t, src, im)} {
		dir := "many"
		if slices.Contains(m.list(), "reg.example") {
			dir = im.dir + "/rootfs/many"
		}
		if got := m.list(dir); !slices.Equal(got, want) {
			t.Errorf("it has %d names, want the %d", len(got), many)
		}
		if n := strings.Count(run(t, "find", m.path(dir), "-type", "f", "-size", "0", "-printf", "%i\n"), "\n"); n != many {
			t.Errorf("find finds %d files, want %d", n, many)
		}
		m.wantNone(dir + "/none")
	}
}
