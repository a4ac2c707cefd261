package fs_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/internal/testlayer"
	"distfs/layer"
)

// view is the attribute that says what a file's names are from.
func (m *mount) view(path string) string {
	m.tb.Helper()
	view, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(path), "user.distfs.view"})
	if err != nil {
		m.tb.Errorf("user.distfs.view of %s: %v", path, err)
	}
	return view
}

// TestFormatByContent reads layers for what they are, and not for what their media type
// says.
func TestFormatByContent(t *testing.T) {
	src := newSource(t)
	plain := testlayer.Tar(t, testlayer.Reg("a", "a\n"))
	for _, b := range [][]byte{plain, testlayer.Gzip(t, plain), testlayer.Zstd(t, plain)} {
		for _, mediaType := range []string{
			ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd, "application/vnd.docker.image.rootfs.diff.tar.gzip",
		} {
			im := addFiles(t, src, packed{mediaType, b, nil})
			mountSource(t, src, nil).wantFile(im.dir+"/rootfs/a", []byte("a\n"))
		}
	}
}

// TestIndexedOnce has two mounts on one store, and two repositories in one of them, look
// into a layer at the same time: its index is made once.
func TestIndexedOnce(t *testing.T) {
	src := newSource(t)
	l := gzipped(t, testlayer.Reg("a", "a\n"))
	im := addFiles(t, src, l)
	im.layers[0].gate()
	const elsewhere = "reg.example/team/other"
	twin := im.manifest.desc.Digest
	for k, b := range src.blobs {
		if strings.HasPrefix(k, repo+"@") && b != im.layers[0] {
			src.add(elsewhere, b.desc.MediaType, b.content)
		}
	}
	other := src.add(elsewhere, l.mediaType, l.blob).gate()
	first, second := mountSource(t, src, nil), mountSource(t, src, nil)
	var reads []func() error
	for path, m := range map[string]*mount{im.dir + "/rootfs/a": first, elsewhere + "@" + string(twin) + "/rootfs/a": second, im.dir + "/layers/0/a": second} {
		got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(path), 0, -1})
		reads = append(reads, func() error {
			if err := wait(); err != nil {
				return err
			}
			if string(*got) != "a\n" {
				t.Errorf("read %q", *got)
			}
			return nil
		})
	}
	ctx := within(t, timeLimit)
	for is := func(b *blob) (waits bool) { b.edit(func(b *blob) { waits = b.waiting > 0 }); return }; !is(other) && !is(im.layers[0]); {
		if ctx.Err() != nil {
			t.Fatal("nobody reads the layer")
		}
	}
	for _, b := range []*blob{im.layers[0], other} {
		b.release(0, 1)
	}
	for _, wait := range reads {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	if n := src.indexesKept(); n != 1 {
		t.Errorf("an index was made %d times, want once", n)
	}
}

// TestSideBySide wants the layers of an image to be indexed side by side once its tree is
// named, which waits for none.
func TestSideBySide(t *testing.T) {
	for _, tree := range []string{"/rootfs", "/layers/1"} {
		src := newSource(t)
		im := addFiles(t, src, gzipped(t, testlayer.Reg("a", "a\n")), gzipped(t, testlayer.Reg("b", "b\n")))
		for _, l := range im.layers {
			l.gate()
		}
		m := mountSource(t, src, nil)
		if _, err := call[string, int](m.agent, "Name", m.path(im.dir+tree)); err != nil {
			t.Fatal(err)
		}
		im.layers[1].waitFor(t, func(b *blob) bool { return b.waiting > 0 })
		if tree == "/rootfs" {
			im.layers[0].waitFor(t, func(b *blob) bool { return b.waiting > 0 })
		}
		for _, l := range im.layers {
			l.release(0, 1)
		}
		m.wantFile(im.dir+tree+"/b", []byte("b\n"))
	}
}

// TestTOCThatDoesNotCount has descriptors that name another table of contents than the
// layer has, or none: it is read by its tar then, in which the table and the landmarks
// are files as any other.
func TestTOCThatDoesNotCount(t *testing.T) {
	files := []testlayer.File{testlayer.Reg(".no.prefetch.landmark", "\x0f"), testlayer.Reg("a", "a\n")}
	es, estargz := testlayer.EStargz(t, nil, files...)
	zs, chunked := testlayer.ZstdChunked(t, nil, files...)
	another := func(annotations map[string]string) map[string]string {
		other := make(map[string]string)
		for name, value := range annotations {
			if strings.HasPrefix(value, "sha256:") {
				value = string(digestOf([]byte("another")))
			}
			other[name] = value
		}
		return other
	}
	one := testlayer.Gzip(t, testlayer.Tar(t, append(files, testlayer.Reg("stargz.index.json", "{}"))...))
	ownWord := map[string]string{layer.AnnotationTOC: string(digestOf([]byte("{}")))}
	inPlace := testlayer.Gzip(t, testlayer.Tar(t, testlayer.Dir("stargz.index.json"), files[1]))
	const landmark, table = ".no.prefetch.landmark", "stargz.index.json"
	for name, c := range map[string]struct {
		layer     packed
		distrusts bool
		logs      bool
		want      []string
	}{
		"eStargz of another digest":        {packed{ocispec.MediaTypeImageLayerGzip, one, estargz}, false, true, []string{landmark, "a", table}},
		"the same, distrusted":             {packed{ocispec.MediaTypeImageLayerGzip, one, estargz}, true, false, []string{landmark, "a", table}},
		"eStargz of no digest":             {packed{ocispec.MediaTypeImageLayerGzip, one, nil}, false, false, []string{landmark, "a", table}},
		"eStargz, distrusted":              {packed{ocispec.MediaTypeImageLayerGzip, one, ownWord}, true, false, []string{"a"}},
		"eStargz without a footer":         {packed{ocispec.MediaTypeImageLayerGzip, one, ownWord}, false, true, []string{"a"}},
		"a directory in the table's place": {packed{ocispec.MediaTypeImageLayerGzip, inPlace, estargz}, false, true, []string{"a", table}},
		"a footer, and another digest":     {packed{ocispec.MediaTypeImageLayerGzip, es, another(estargz)}, false, true, []string{"a"}},
		"zstd:chunked of another digest":   {packed{ocispec.MediaTypeImageLayerZstd, zs, another(chunked)}, false, true, []string{landmark, "a"}},
		"zstd:chunked of no digest":        {packed{ocispec.MediaTypeImageLayerZstd, zs, nil}, false, false, []string{landmark, "a"}},
		"zstd:chunked, distrusted":         {packed{ocispec.MediaTypeImageLayerZstd, zs, chunked}, true, false, []string{landmark, "a"}},
		"eStargz, said to be zstd:chunked": {packed{ocispec.MediaTypeImageLayerGzip, es, chunked}, false, true, []string{landmark, "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t)
			im := addFiles(t, src, c.layer)
			m := mountSource(t, src, &fs.Options{DistrustTOC: c.distrusts})
			m.wantFile(im.dir+"/rootfs/a", []byte("a\n"))
			if got := m.list(im.dir + "/rootfs"); !slices.Equal(got, c.want) {
				t.Errorf("it has %q, want %q", got, c.want)
			}
			if got := m.view(im.dir + "/rootfs/a"); got != "tar" {
				t.Errorf("the view is %q, want tar", got)
			}
			if log := m.log.String(); strings.Contains(log, "does not count") != c.logs || c.logs && !strings.Contains(log, string(im.layers[0].desc.Digest)) {
				t.Errorf("the log says so: want %t:\n%s", c.logs, log)
			}
		})
	}
}

// TestWrongLayer makes no index of a layer that has not its digest, however right it looks.
func TestWrongLayer(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, gzipped(t, testlayer.Reg("a", "a\n")))
	im.layers[0].content = testlayer.Gzip(t, testlayer.Tar(t, testlayer.Reg("a", "b\n")))
	m := mountSource(t, src, nil)
	if _, err := m.read(m.path(im.dir + "/rootfs/a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file of what came in its place: %v, want EIO", err)
	}
	if src.indexesKept() != 0 {
		t.Error("an index of it is kept")
	}
}
