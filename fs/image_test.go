package fs_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
)

// An img is an image of one platform, and an index with it.
type img struct {
	dir                            string // that of the index, below the mount
	config, layer, manifest, index *blob
}

func addImage(tb testing.TB, src *source, layerSize int) img {
	tb.Helper()
	return addImageTo(tb, src, repo, layerSize)
}

func addImageTo(tb testing.TB, src *source, repo string, layerSize int) img {
	tb.Helper()
	var im img
	im.config = src.add(repo, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`))
	im.layer = src.add(repo, ocispec.MediaTypeImageLayerGzip, content(9, layerSize))
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: im.config.desc, Layers: []ocispec.Descriptor{im.layer.desc}}
	m.SchemaVersion = 2
	im.manifest = src.addDocument(tb, repo, ocispec.MediaTypeImageManifest, m)
	desc := im.manifest.desc
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
	x.SchemaVersion = 2
	im.index = src.addDocument(tb, repo, ocispec.MediaTypeImageIndex, x)
	im.dir = repo + "@" + string(im.index.desc.Digest)
	src.set(func(s *source) { s.tags[repo+":v1"] = im.index.desc })
	return im
}

// addDocument adds a manifest or an index.
func (s *source) addDocument(tb testing.TB, repo, mediaType string, doc any) *blob {
	tb.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return s.add(repo, mediaType, b)
}

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func TestImage(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	tag := m.path(repo + ":v1")

	link := func(path string) string {
		t.Helper()
		target, err := call[string, string](m.agent, "Readlink", path)
		if err != nil {
			t.Errorf("readlink %s: %v", path, err)
		}
		if st := m.stat(path); st.Size != int64(len(target)) {
			t.Errorf("lstat %s: %d bytes, the link has %d", path, st.Size, len(target))
		}
		return target
	}
	if got, want := link(tag), "app@"+string(im.index.desc.Digest); got != want {
		t.Errorf("the tag leads to %q, want %q", got, want)
	}
	if got, want := m.list(im.dir), []string{"config.json", "index.json", "layers", "manifest.json", "platforms"}; !slices.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
	if got, want := m.list(im.dir, "layers"), []string{"0.tar.gz"}; !slices.Equal(got, want) {
		t.Errorf("its layers are %q, want %q", got, want)
	}
	for name, b := range map[string]*blob{
		"index.json": im.index, "manifest.json": im.manifest, "config.json": im.config, "layers/0.tar.gz": im.layer,
	} {
		want := strings.Repeat("../", strings.Count(name, "/")+1) + "app/" + string(b.desc.Digest)
		if got := link(m.path(im.dir, name)); got != want {
			t.Errorf("%s leads to %q, want %q", name, got, want)
		}
		m.wantRead(tag+"/"+name, b.content)
	}

	// One manifest's own directory has no index.
	single := repo + ":v1@" + string(im.manifest.desc.Digest)
	if got, want := m.list(single), []string{"config.json", "layers", "manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("the manifest's directory has %q, want %q", got, want)
	}
	if _, err := m.read(m.path(single, "index.json")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("index.json of a manifest: %v, want ENOENT", err)
	}
	if _, err := m.read(m.path(im.dir, "layers/1.tar.gz")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a layer too many: %v, want ENOENT", err)
	}
}

// TestImageAsksLittle counts the requests of entering an image: one for the
// tag and one for each manifest. What manifests name has its size from them.
func TestImageAsksLittle(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	run(t, "ls", "-lL", m.path(repo+":v1/"))
	run(t, "ls", "-lL", m.path(repo+":v1/layers/"))
	got := src.requests()
	slices.Sort(got)
	want := []string{"resolve " + repo + ":v1", "stat " + key(im.index.loc, im.index.desc.Digest), "stat " + key(im.index.loc, im.manifest.desc.Digest)}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// TestImageIsListed once it was entered, and then walked without a request.
func TestImageIsListed(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: amd64, TagTTL: -1})
	name := strings.TrimPrefix(im.dir, "reg.example/team/")
	m.stat(m.path(im.dir))
	if got := m.list("reg.example/team"); slices.Contains(got, name) {
		t.Errorf("before its manifest was read the image is listed: %q", got)
	}
	m.list(im.dir)
	if got := m.list("reg.example/team"); !slices.Equal(got, []string{"app", name}) {
		t.Errorf("after it was entered the list is %q", got)
	}
	src.requests()
	out := run(t, "find", m.dir, "-ls")
	if !strings.Contains(out, "layers/0.tar.gz") || !strings.Contains(out, "platforms/linux-amd64 ->") {
		t.Errorf("find sees %s", out)
	}
	run(t, "ls", "-lR", m.dir)
	if out := run(t, "find", m.dir, "-xtype", "l"); out != "" {
		t.Errorf("nowhere leads %s", out)
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("a walk asked %q", got)
	}
}

func TestNoPlatform(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	m := mountSource(t, src, &fs.Options{Platform: ocispec.Platform{OS: "plan9", Architecture: "mips"}})
	if got, want := m.list(im.dir), []string{"index.json", "platforms"}; !slices.Equal(got, want) {
		t.Errorf("without a platform the image has %q, want %q", got, want)
	}
	if _, err := m.read(m.path(im.dir, "manifest.json")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("manifest.json: %v, want ENOENT", err)
	}
	if log := m.log.String(); !strings.Contains(log, "linux/amd64") || !strings.Contains(log, "plan9/mips") {
		t.Errorf("the log does not say which platforms there are: %s", log)
	}
}

// TestNoImage reads directories of objects that are no images.
func TestNoImage(t *testing.T) {
	src := newSource(t)
	for name, b := range map[string]*blob{
		"a layer":  src.add(repo, "", content(1, 1000)),
		"a lie":    src.add(repo, ocispec.MediaTypeImageManifest, []byte("null")),
		"too long": src.add(repo, ocispec.MediaTypeImageManifest, make([]byte, 5<<20)),
	} {
		m := mountSource(t, src, nil)
		_, err := call[string, []string](m.agent, "List", m.path(repo+"@"+string(b.desc.Digest)))
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", name, err)
		}
		if !strings.Contains(m.log.String(), "errno=EIO") {
			t.Errorf("%s: the log does not say why: %s", name, m.log)
		}
	}
}
