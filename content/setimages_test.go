package content_test

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distfs/content"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// named is an image whose blob is in s.
func named(tb testing.TB, s *content.Store, name string, b []byte) ocispec.Descriptor {
	tb.Helper()
	desc, err := s.WriteBlob(tb.Context(), name, strings.NewReader(string(b)), int64(len(b)), digest.FromBytes(b))
	if err != nil {
		tb.Fatal(err)
	}
	desc.MediaType = ocispec.MediaTypeImageManifest
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	return desc
}

func names(tb testing.TB, s *content.Store) []string {
	tb.Helper()
	images, err := s.Images()
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, image := range images {
		list = append(list, image.Annotations[ocispec.AnnotationRefName]+" "+string(image.Digest))
	}
	return list
}

func TestSetImagesReplacesByName(t *testing.T) {
	s := newStore(t)
	a, b := named(t, s, "example.com/a:1", []byte("a")), named(t, s, "example.com/b:1", []byte("b"))
	a.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if err := s.SetImages(a, b); err != nil {
		t.Fatal(err)
	}
	images, err := s.Images()
	if err != nil || len(images) != 2 || images[0].Platform == nil || images[0].Platform.Architecture != "arm64" {
		t.Errorf("Images = %+v, %v, want two, the first of arm64", images, err)
	}
	newer := named(t, s, "example.com/a:1", []byte("newer"))
	if err := s.SetImages(newer); err != nil {
		t.Fatal(err)
	}
	want := []string{"example.com/b:1 " + string(b.Digest), "example.com/a:1 " + string(newer.Digest)}
	if diff := cmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("Images (-want +got)\n%s", diff)
	}
	gone, err := s.RemoveImages("example.com/a:1", "example.com/none:1")
	if err != nil || !slices.Equal(gone, []digest.Digest{newer.Digest}) {
		t.Errorf("RemoveImages = %v, %v, want %s", gone, err, newer.Digest)
	}
	if diff := cmp.Diff(want[:1], names(t, s)); diff != "" {
		t.Errorf("Images after RemoveImages (-want +got)\n%s", diff)
	}
}

// What stands there is not written again: all who list the store would have to look again.
func TestSetImagesUnchanged(t *testing.T) {
	s := newStore(t)
	a, b := named(t, s, "example.com/a:1", []byte("a")), named(t, s, "example.com/b:1", []byte("b"))
	a.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if err := s.SetImages(a, b); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(s.Dir(), "index.json")
	was, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	isNew := func() bool {
		t.Helper()
		is, err := os.Stat(index)
		if err != nil {
			t.Fatal(err)
		}
		return !os.SameFile(was, is)
	}
	_, removeErr := s.RemoveImages("example.com/none:1", "")
	if err := errors.Join(s.SetImages(b), s.SetImages(a, b), removeErr); err != nil {
		t.Fatal(err)
	}
	if isNew() {
		t.Error("index.json was written though nothing of it changed")
	}
	a.Platform = nil
	if err := s.SetImages(a); err != nil {
		t.Fatal(err)
	}
	images, err := s.Images()
	if err != nil || len(images) != 2 || images[1].Digest != a.Digest || images[1].Platform != nil || !isNew() {
		t.Errorf("Images = %+v, %v, want two, the second without a platform", images, err)
	}
	if err := s.Delete(b.Digest); err != nil {
		t.Fatal(err)
	}
	if err := s.SetImages(b); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("SetImages of what is there no more = %v, want fs.ErrNotExist", err)
	}
}

func TestSetImagesKeepsWhatIsNotOurs(t *testing.T) {
	s := newStore(t)
	const foreign = `{"schemaVersion":2,"x-tool":{"n":12345678901234567890},"annotations":{"k":"v"},"manifests":[
		{"mediaType":"application/x","digest":"sha256:abc","size":1,"x":[null]},
		{"annotations":{"org.opencontainers.image.ref.name":"1.0","other":"kept"},"digest":"sha256:def","urls":["http://a"]},
		"no object"]}`
	index := filepath.Join(s.Dir(), "index.json")
	if err := os.WriteFile(index, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	a := named(t, s, "example.com/a:1", []byte("a"))
	if err := s.SetImages(a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveImages("example.com/a:1"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(generic(t, []byte(foreign)), generic(t, got)); diff != "" {
		t.Errorf("index.json after an image came and went (-want +got)\n%s", diff)
	}
	if !strings.Contains(string(got), "12345678901234567890") {
		t.Errorf("index.json = %s, want the number as it was", got)
	}
}

func generic(tb testing.TB, b []byte) (v any) {
	tb.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestSetImagesRefuses(t *testing.T) {
	s := newStore(t)
	a := named(t, s, "example.com/a:1", []byte("a"))
	absent := a
	absent.Digest = digest.FromString("absent")
	if err := s.SetImages(a, absent); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("SetImages of an absent blob = %v, want ErrNotExist", err)
	}
	unnamed := a
	unnamed.Annotations = nil
	if err := s.SetImages(a, unnamed); err == nil {
		t.Error("SetImages without a name = nil, want an error")
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("Images = %v, want none: all or none", got)
	}
	index := filepath.Join(s.Dir(), "index.json")
	for _, broken := range []string{`{"manifests":`, `null`, `[]`, `{"manifests":{}}`} {
		if err := os.WriteFile(index, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.SetImages(a); err == nil {
			t.Errorf("SetImages over %s = nil, want an error", broken)
		}
		if b, err := os.ReadFile(index); err != nil || string(b) != broken {
			t.Errorf("index.json = %s, %v, want it as it was, %s", b, err, broken)
		}
	}
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if err := s.SetImages(a); err != nil {
		t.Errorf("SetImages without an index.json = %v, want one to be made", err)
	}
}

// Though its blobs are held, one can be deleted or found bad before the image is entered.
func TestSetImagesRefusesHalf(t *testing.T) {
	s := newStore(t)
	put := func(b []byte) ocispec.Descriptor {
		desc := named(t, s, string(digest.FromBytes(b)), b)
		desc.Annotations = nil
		return desc
	}
	layer := put([]byte("layer"))
	layer.MediaType = ocispec.MediaTypeImageLayer
	foreign := ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString("foreign"), Size: 7}
	alias := layer // as which the image could do without it
	alias.MediaType = foreign.MediaType
	deep := put(marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{alias, layer, foreign}}))
	for range 5 {
		deep = put(marshal(ocispec.Index{Manifests: []ocispec.Descriptor{deep}}))
	}
	image := func(desc ocispec.Descriptor) ocispec.Descriptor {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: "example.com/a:1"}
		return desc
	}
	if err := s.SetImages(image(deep)); err != nil {
		t.Errorf("SetImages without a foreign layer = %v", err)
	}
	if _, err := s.RemoveImages("example.com/a:1"); err != nil {
		t.Fatal(err)
	}
	release, err := s.Hold(layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	rewrite(t, filepath.Join(s.Dir(), "blobs", "sha256", layer.Digest.Encoded()), []byte("rotten"))
	if _, err := s.CheckBlob(t.Context(), layer.Digest); err == nil {
		t.Fatal("CheckBlob = nil, want a mismatch")
	}
	err = s.SetImages(image(deep))
	if !errors.Is(err, iofs.ErrNotExist) || !strings.Contains(err.Error(), string(layer.Digest)) {
		t.Errorf("SetImages of an image without its layer = %v, want ErrNotExist of %s", err, layer.Digest)
	}
	if got := names(t, s); len(got) > 0 {
		t.Errorf("Images = %v, want none", got)
	}
}

// imageChild enters the image args[1] into the store args[0].
func imageChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	return s.SetImages(ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("a"), Size: 1,
		Annotations: map[string]string{ocispec.AnnotationRefName: args[1]},
	})
}

func TestTwentyProcessesNameTwentyImages(t *testing.T) {
	s := newStore(t)
	named(t, s, "a", []byte("a"))
	var cmds []*exec.Cmd
	want := make(map[string]bool)
	for i := range 20 {
		name := fmt.Sprintf("example.com/a:%d", i)
		want[name+" "+string(digest.FromString("a"))] = true
		cmds = append(cmds, child(t, "image", s.Dir(), name))
	}
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	got := make(map[string]bool)
	for _, name := range names(t, s) {
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Images (-want +got)\n%s", diff)
	}
}
