package fs_test

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"distfs/fs"
	"distfs/locator"
)

// addArtifact adds an artifact of these layers.
func (s *source) addArtifact(tb testing.TB, artifactType string, subject *ocispec.Descriptor, layers ...ocispec.Descriptor) *blob {
	tb.Helper()
	return s.addDocument(tb, repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: s.add(repo, ocispec.MediaTypeEmptyJSON, []byte("{}")).desc, Layers: append([]ocispec.Descriptor{}, layers...), Subject: subject,
	})
}

func (s *source) addIndex(tb testing.TB, manifests ...ocispec.Descriptor) *blob {
	tb.Helper()
	return s.addDocument(tb, repo, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

// attestation is a descriptor of one, in an index.
func attestation(b *blob, of *blob) ocispec.Descriptor {
	desc := b.desc
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": string(of.desc.Digest)}
	return desc
}

// of is b's descriptor with a platform.
func (b *blob) of(os, arch, variant string) ocispec.Descriptor {
	desc := b.desc
	desc.Platform = &ocispec.Platform{OS: os, Architecture: arch, Variant: variant}
	return desc
}

// tree returns the links below a directory, by their paths, and what they lead to.
func (m *mount) tree(dir string) map[string]string {
	m.tb.Helper()
	links := make(map[string]string)
	for line := range strings.Lines(run(m.tb, "find", m.path(dir), "-type", "l", "-printf", `%P\t%l\n`)) {
		name, target, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		links[name] = target
	}
	return links
}

func (m *mount) wantTree(dir string, want map[string]string) {
	m.tb.Helper()
	if diff := cmp.Diff(want, m.tree(dir)); diff != "" {
		m.tb.Errorf("%s has (-want +got):\n%s", dir, diff)
	}
}

func (m *mount) wantNone(path string) {
	m.tb.Helper()
	if _, err := call[string, unix.Stat_t](m.agent, "Lstat", m.path(path)); !errors.Is(err, syscall.ENOENT) {
		m.tb.Errorf("lstat %s: %v, want ENOENT", path, err)
	}
}

func TestPlatforms(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	arm := src.addArtifact(t, "", nil, im.layer.desc)
	inner := src.addIndex(t, im.manifest.of("linux", "amd64", ""))
	proof := src.addArtifact(t, "", nil)
	top := src.addIndex(t, im.manifest.of("linux", "amd64", ""), arm.of("linux", "arm64", "v8"), attestation(proof, im.manifest),
		inner.desc, im.manifest.of("..", "/", ""), arm.of("linux", "arm64", "v8"), inner.of("linux", "amd64", ""))
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	dir := repo + "@" + string(top.desc.Digest)
	m.list(dir)
	src.requests()
	if out := run(t, "find", m.path(dir), "-xtype", "l"); out != "" {
		t.Errorf("nowhere leads %s", out)
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("where the links lead asked %q", got)
	}
	to := func(b *blob) string { return "../../app@" + string(b.desc.Digest) }
	want := map[string]string{
		"linux-amd64": to(im.manifest), "linux-arm64-v8": to(arm), string(inner.desc.Digest): to(inner), string(im.manifest.desc.Digest): to(im.manifest),
		"linux-amd64-" + inner.desc.Digest.Encoded()[:12]: to(inner),
	}
	m.wantTree(dir+"/platforms", want)
	m.wantRead(m.path(dir, "platforms/linux-arm64-v8/layers/0.tar.gz"), im.layer.content)
	m.wantRead(m.path(dir, "platforms", string(inner.desc.Digest), "platforms/linux-amd64/config.json"), im.config.content)
	m.wantRead(m.path(repo+":v1/platforms/linux-amd64/config.json"), im.config.content)

	twin := locator.Twin(dir)
	for name, target := range want {
		want[name] = locator.Twin(target)
	}
	m.wantTree(twin+"/platforms", want)
	m.wantRead(m.path(twin, "platforms/linux-amd64/config.json"), im.config.content)

	for _, name := range []string{
		dir + "/platforms/linux-arm64", dir + "/platforms/unknown-unknown", dir + "/platforms/linux-amd64/platforms",
		repo + "@" + string(proof.desc.Digest) + "/platforms",
	} {
		m.wantNone(name)
	}
	if got := m.info(t, src, dir+"/platforms"); got.Kind != "directory" {
		t.Errorf("platforms is of kind %q", got.Kind)
	}
	if got := m.info(t, src, dir+"/platforms/linux-amd64"); got.Kind != "link" || got.Target != to(im.manifest) || got.Digest != im.manifest.desc.Digest || got.State != "complete" {
		t.Errorf("of a platform: %+v", got)
	}
}

// TestIndexOfItself walks through an index that lists another and, by a lie
// about digests, itself.
func TestIndexOfItself(t *testing.T) {
	src := newSource(t)
	self := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digestOf([]byte("self")), Size: 100}
	b := src.addIndex(t, self)
	src.addAs(repo, ocispec.MediaTypeImageIndex, self.Digest, b.content)
	m := mountSource(t, src, &fs.Options{Platform: amd64})
	if _, err := call[string, []string](m.agent, "List", m.path(repo+"@"+string(b.desc.Digest), "platforms", string(self.Digest), "platforms")); !errors.Is(err, syscall.EIO) {
		t.Errorf("an index of another digest lists %v, want EIO", err)
	}
}

func TestFiles(t *testing.T) {
	src := newSource(t)
	layer := func(seed byte, title string) (*blob, ocispec.Descriptor) {
		b := src.add(repo, "application/octet-stream", content(seed, 1000))
		desc := b.desc
		desc.Annotations = map[string]string{ocispec.AnnotationTitle: title, "io.deis.oras.content.unpack": "true"}
		return b, desc
	}
	type file struct {
		title, name string // "" is the digest
	}
	files := []file{
		{"a/b.bin", "a/b.bin"},
		{"a/c/d", "a/c/d"},
		{"model.gguf", "model.gguf"},
		{"new\nline", "new\nline"},
		{"a", ""}, // a directory
		{"a/b.bin", ""},
		{"model.gguf/x/y", ""},
		{"", ""},
		{"../x", ""},
		{"/etc/passwd", ""},
		{"a//b", ""},
		{"x/", ""},
		{"./x", ""},
		{"n\x00l", ""},
		{strings.Repeat("x", 256), ""},
		{strings.Repeat("d/", 300) + "x", ""},
		{strings.Repeat("d/", 254) + "x", strings.Repeat("d/", 254) + "x"},
	}
	var layers []ocispec.Descriptor
	want := make(map[string]string)
	blobs := make(map[string]*blob)
	for i, f := range files {
		b, desc := layer(byte(i), f.title)
		layers = append(layers, desc)
		if f.name == "" {
			f.name = string(b.desc.Digest)
		}
		want[f.name] = strings.Repeat("../", strings.Count(f.name, "/")+2) + "app/" + string(b.desc.Digest)
		blobs[f.name] = b
	}
	_, again := layer(0, "a/b.bin") // the same under the same name
	bare := src.add(repo, "text/plain", []byte("without a title"))
	artifact := src.addArtifact(t, "application/vnd.x", nil, append(layers, again, bare.desc)...)
	src.set(func(s *source) { s.tags[repo+":model"] = artifact.desc })
	m := mountSource(t, src, nil)
	dir := repo + "@" + string(artifact.desc.Digest)

	if got, want := m.list(dir), []string{"config.json", "files", "layers", "manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("the artifact has %q, want %q", got, want)
	}
	for name, b := range blobs {
		for _, dir := range []string{dir, repo + ":model", locator.Twin(dir)} {
			target, err := m.readlink(path.Join(dir, "files", name))
			if twin := strings.Contains(dir, "="); err != nil || !twin && target != want[name] || twin && target != locator.Twin(want[name]) {
				t.Errorf("%.50q leads to %q, %v, want %q", name, target, err, want[name])
			}
			m.wantRead(m.path(dir, "files", name), b.content)
		}
	}
	delete(want, "new\nline") // tree goes by lines
	got := m.tree(dir + "/files")
	for name := range got {
		if name == "new" || name == "" || strings.HasPrefix(name, "line") {
			delete(got, name)
		}
	}
	for name, target := range want {
		if got[name] != target {
			t.Errorf("%.50q leads to %q, want %q", name, got[name], target)
		}
	}
	if st := m.stat(m.path(dir, "files/a/c")); st.Mode != unix.S_IFDIR|0o555 {
		t.Errorf("the mode of a directory is %o", st.Mode)
	}
	for _, name := range []string{"files/x", "files/a/b", "files/" + string(bare.desc.Digest), "files/a/c/../../../etc"} {
		m.wantNone(dir + "/" + name)
	}
	log := m.log.String()
	if n := strings.Count(log, "named by their digests"); n != 1 || !strings.Contains(log, "count=12") {
		t.Errorf("the log says %d times that files have no names: %s", n, log)
	}
	if !strings.Contains(log, "and 4 more") || strings.Count(log, "title ") != 8 {
		t.Errorf("the log does not tell the first reasons and how many more there are: %s", log)
	}
	for path, kind := range map[string]string{dir + "/files": "directory", dir + "/files/a": "directory", dir + "/files/model.gguf": "link"} {
		if got := m.info(t, src, path); got.Kind != kind {
			t.Errorf("%s is of kind %q, want %q", path, got.Kind, kind)
		}
	}
	if got := m.info(t, src, dir+"/files/model.gguf"); got.Digest != layers[2].Digest || got.Size != 1000 {
		t.Errorf("of a file: %+v", got)
	}

	// No title, no files.
	im := addImage(t, src, 5<<20)
	m.wantNone(im.dir + "/files")
	m.wantNone(repo + "@" + string(src.addArtifact(t, "a/b", nil, bare.desc).desc.Digest) + "/files")
}

// TestManyTitles has no manifest make more directories than are bounded.
func TestManyTitles(t *testing.T) {
	src := newSource(t)
	layers := make([]ocispec.Descriptor, 3000)
	for i := range layers {
		layers[i] = ocispec.Descriptor{
			MediaType: "text/plain", Size: 1, Digest: digestOf(fmt.Append(nil, i)),
			Annotations: map[string]string{ocispec.AnnotationTitle: fmt.Sprint(i) + strings.Repeat("/d", 100)},
		}
	}
	artifact := src.addArtifact(t, "a/b", nil, layers...)
	m := mountSource(t, src, nil)
	names := m.list(repo+"@"+string(artifact.desc.Digest), "files")
	byDigest := 0
	for _, name := range names {
		if strings.HasPrefix(name, "sha256:") {
			byDigest++
		}
	}
	if len(names) != 3000 || byDigest != 3000-648 {
		t.Errorf("%d names, %d of them digests", len(names), byDigest)
	}
}
