package fs_test

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/image"
	"distfs/locator"
)

// refers has the remote list b as what refers to another, as it says itself.
func (s *source) refers(b, to *blob, artifactType string) {
	desc := b.desc
	desc.ArtifactType = artifactType
	s.set(func(s *source) {
		if s.refer == nil {
			s.refer = make(map[string][]ocispec.Descriptor)
		}
		k := key(to.loc, to.desc.Digest)
		s.refer[k] = append(s.refer[k], desc)
	})
}

// A signedImage is an image that things refer to.
type signedImage struct {
	img
	index     *blob // of all
	dir       string
	signature *blob // of the manifest
	sbom      *blob // of the index
	proof     *blob // BuildKit's, of the manifest
}

func addSigned(t *testing.T, src *source) signedImage {
	t.Helper()
	s := signedImage{img: addImage(t, src, 5<<20)}
	text := src.add(repo, "text/plain", []byte("a signature"))
	desc := text.desc
	desc.Annotations = map[string]string{ocispec.AnnotationTitle: "sig"}
	s.proof = src.addArtifact(t, "", nil, desc)
	s.index = src.addIndex(t, s.manifest.of("linux", "amd64", ""), attestation(s.proof, s.manifest))
	s.dir = repo + "@" + string(s.index.desc.Digest)
	s.signature = src.addArtifact(t, "application/vnd.sig+json", &s.manifest.desc, desc)
	s.sbom = src.addArtifact(t, "application/vnd.sbom", &s.index.desc, desc)
	src.refers(s.signature, s.manifest, "application/vnd.sig+json")
	src.refers(s.sbom, s.index, "application/vnd.sbom")
	src.set(func(src *source) { src.tags[repo+":signed"] = s.index.desc })
	return s
}

// links are what a directory of it lists, of which the links go so many levels up.
func (s signedImage) links(of ...*blob) map[string]string {
	types := map[*blob]string{
		s.signature: "application/vnd.sig+json", s.sbom: "application/vnd.sbom", s.proof: image.MediaTypeAttestation,
	}
	links := make(map[string]string)
	for _, b := range of {
		links[types[b]+"/"+string(b.desc.Digest)] = "../../../../app@" + string(b.desc.Digest)
	}
	return links
}

func TestReferrers(t *testing.T) {
	src := newSource(t)
	im := addSigned(t, src)
	m := mountSource(t, src, &fs.Options{Platform: amd64, TagTTL: time.Hour})
	if got := m.info(t, src, im.dir+"/referrers"); got.Kind != "directory" {
		t.Errorf("of a directory that nobody asked for: %+v", got)
	}
	if _, err := m.Stat(im.dir + "/referrers/application"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Stat of a type that nobody asked for: %v, want ENETUNREACH", err)
	}

	// It is not listed, and asked for once.
	if got, want := m.list(im.dir), []string{"config.json", "index.json", "layers", "manifest.json", "platforms"}; !slices.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
	src.requests()
	m.stat(m.path(im.dir, "referrers"))
	if got := src.requests(); len(got) > 0 {
		t.Errorf("naming it asked %q", got)
	}
	m.wantTree(im.dir+"/referrers", im.links(im.signature, im.sbom, im.proof))
	m.wantTree(repo+":signed/referrers/", im.links(im.signature, im.sbom, im.proof))
	for _, path := range []string{"text", "application/vnd.none", "application/vnd.sbom/" + string(im.signature.desc.Digest), "other"} {
		m.wantNone(im.dir + "/referrers/" + path)
	}
	got := slices.DeleteFunc(src.requests(), func(s string) bool { return !strings.HasPrefix(s, "referrers ") })
	if want := []string{"referrers " + key(im.index.loc, im.index.desc.Digest), "referrers " + key(im.index.loc, im.manifest.desc.Digest)}; !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}

	// To see whether the links lead anywhere is no request.
	if out := run(t, "find", m.path(im.dir)+"/referrers", "-xtype", "l"); out != "" {
		t.Errorf("nowhere leads %s", out)
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("where they lead asked %q", got)
	}

	// What refers to it is an image's directory; the manifest has its own.
	m.wantRead(m.path(im.dir, "referrers/application/vnd.sbom", string(im.sbom.desc.Digest), "files/sig"), []byte("a signature"))
	m.wantTree(repo+"@"+string(im.manifest.desc.Digest)+"/referrers", im.links(im.signature, im.proof))
	links := im.links(im.signature, im.sbom, im.proof)
	for name, target := range links {
		links[name] = locator.Twin(target)
	}
	m.wantTree(locator.Twin(im.dir)+"/referrers", links)

	// Whoever asks what is known is told, and nobody asked.
	for path, kind := range map[string]string{"application": "directory", "application/vnd.sbom": "directory", "application/vnd.sbom/" + string(im.sbom.desc.Digest): "link"} {
		got := m.info(t, src, im.dir+"/referrers/"+path)
		if got.Kind != kind || kind == "link" && (got.Digest != im.sbom.desc.Digest || got.State != "complete") {
			t.Errorf("of %s: %+v", path, got)
		}
	}
	if out := run(t, "find", m.dir, "-path", "*/referrers*"); out != "" {
		t.Errorf("a walk sees %s", out)
	}
}

// TestReferrerTypes puts what has no type that can be a path where nothing else is.
func TestReferrerTypes(t *testing.T) {
	src := newSource(t)
	im := addImage(t, src, 5<<20)
	want := make(map[string]string)
	for i, artifactType := range []string{
		"application/vnd.x+json", "Application/y", "a/b", "a/c", // proper ones
		"", "a", "/", "../..", "a/..", "a/b/c", "a/b; c=d", "other/x", "a/" + strings.Repeat("x", 200), "..", "a/sha256:1", "\x00/\x00",
	} {
		b := src.addArtifact(t, fmt.Sprint(i), &im.manifest.desc)
		src.refers(b, im.manifest, artifactType)
		dir, up := artifactType, "../../../../"
		if i > 3 {
			dir, up = "other", "../../../"
		}
		want[dir+"/"+string(b.desc.Digest)] = up + "app@" + string(b.desc.Digest)
	}
	m := mountSource(t, src, nil)
	dir := repo + "@" + string(im.manifest.desc.Digest) + "/referrers"
	m.wantTree(dir, want)
	if got := m.list(dir); !slices.Equal(got, []string{"Application", "a", "application", "other"}) {
		t.Errorf("the types are %q", got)
	}
}

// TestReferrersAgain asks again when what was told is over, and serves it on
// where the remote fails.
func TestReferrersAgain(t *testing.T) {
	src := newSource(t)
	im := addSigned(t, src)
	m := mountSource(t, src, &fs.Options{Platform: amd64, TagTTL: -1})
	dir := im.dir + "/referrers"
	m.wantTree(dir, im.links(im.signature, im.sbom, im.proof))
	link := path.Join(dir, "application/vnd.sbom", string(im.sbom.desc.Digest))
	m.stat(m.path(link))
	src.set(func(s *source) { delete(s.refer, key(im.index.loc, im.index.desc.Digest)) })
	eventually(t, func() bool { return !slices.Contains(m.list(dir, "application"), "vnd.sbom") })
	m.wantTree(dir, im.links(im.signature, im.proof))
	m.wantNone(link)

	src.set(func(s *source) { s.refuse = fmt.Errorf("gone: %w", syscall.EHOSTUNREACH) })
	eventually(t, func() bool {
		m.wantTree(dir, im.links(im.signature, im.proof))
		return strings.Contains(m.log.String(), "serves on")
	})
	if n := strings.Count(m.log.String(), "serves on"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	other := src.addArtifact(t, "a/b", nil)
	other.edit(func(b *blob) { b.known = true })
	if _, err := call[string, []string](m.agent, "List", m.path(repo+"@"+string(other.desc.Digest), "referrers")); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("what was never told lists %v, want EHOSTUNREACH", err)
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	ctx := within(t, timeLimit)
	for !is() && !t.Failed() {
		select {
		case <-ctx.Done():
			t.Fatal("waited too long")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestReferrersOffline are those that the store has, and are listed.
func TestReferrersOffline(t *testing.T) {
	src := newSource(t)
	im := addSigned(t, src)
	src.add(repo, ocispec.MediaTypeImageManifest, []byte("no manifest")).complete(t)
	partial := src.addArtifact(t, "a/b", &im.manifest.desc)
	partial.edit(func(b *blob) { b.known = true })
	for _, b := range []*blob{im.index, im.manifest, im.signature, im.proof} {
		b.complete(t)
	}
	m := mountSource(t, src, &fs.Options{Platform: amd64, Offline: true})
	if got, want := m.list(im.dir), []string{"config.json", "index.json", "layers", "manifest.json", "platforms", "referrers"}; !slices.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
	m.wantTree(im.dir+"/referrers", im.links(im.signature, im.proof))
	if got := m.list(repo + "@" + string(im.signature.desc.Digest)); slices.Contains(got, "referrers") {
		t.Errorf("what nothing refers to has %q", got)
	}
	im.sbom.complete(t) // by another process
	eventually(t, func() bool { return len(m.tree(im.dir+"/referrers")) == 3 })
	if got := src.requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
	if _, err := m.readlink(path.Join(im.dir, "referrers/application/vnd.sbom", string(im.sbom.desc.Digest))); err != nil {
		t.Error(err)
	}
}
