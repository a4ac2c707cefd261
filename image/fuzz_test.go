package image_test

import (
	"encoding/json"
	iofs "io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"distfs/image"
)

func FuzzParse(f *testing.F) {
	for _, declared := range []string{"", ociManifest, ociIndex, dockerManifest, dockerList, "application/json"} {
		f.Add(declared, []byte(manifest("")))
		f.Add(declared, []byte(index(mediaType(declared), desc(ociManifest, dgstA, 1, `,"platform":{"os":"linux","architecture":"arm"}`))))
	}
	f.Add("", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Add("", []byte(manifest(`"subject":`+layerDesc()+`,"annotations":{"a":"b"},"artifactType":"a/b","Layers":null,`)))
	f.Add("", []byte(index("", desc("a/b", dgstA, 2, `,"data":"e30=","urls":["x"],"annotations":null`))))
	f.Fuzz(func(t *testing.T, declared string, b []byte) {
		d, err := image.Parse(declared, b)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		checkDocument(t, d)
		if again, err := image.Parse(d.MediaType, b); err != nil || !cmp.Equal(d, again) {
			t.Errorf("Parse as %s: %v", d.MediaType, err)
		}
		wantStandard(t, d, b)
		checkChoice(t, d)
	})
}

// checkDocument checks what Parse promises of every document.
func checkDocument(t rapid.TB, d *image.Document) {
	t.Helper()
	if !image.IsManifest(d.MediaType) || image.IsIndex(d.MediaType) != d.Index {
		t.Errorf("MediaType = %q, Index = %t", d.MediaType, d.Index)
	}
	if d.Index != (d.Config == nil) || d.Index != (d.Layers == nil) || d.Index != (d.Manifests != nil) {
		t.Errorf("an index and a manifest at once: %+v", d)
	}
	var sum int64
	for desc := range d.Descriptors() {
		if err := desc.Digest.Validate(); err != nil || desc.Size < 0 || desc.MediaType == "" {
			t.Errorf("descriptor %+v: %v", desc, err)
		}
		if sum += desc.Size; sum < 0 {
			t.Error("the sizes' sum overflows")
		}
	}
}

// wantStandard checks that encoding/json, and so every other program in Go,
// sees the same document in b.
func wantStandard(t rapid.TB, d *image.Document, b []byte) {
	t.Helper()
	var m ocispec.Manifest
	var i ocispec.Index
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	if err := json.Unmarshal(b, &i); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	want := &image.Document{
		MediaType: d.MediaType, Index: d.Index, ArtifactType: m.ArtifactType, Subject: m.Subject,
		Annotations: m.Annotations, Layers: m.Layers, Manifests: i.Manifests,
	}
	if !d.Index {
		want.Config = &m.Config
	}
	if diff := cmp.Diff(want, d, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("encoding/json sees another document (-standard +Parse):\n%s", diff)
	}
}

// checkChoice checks that what is chosen is a manifest of the document.
func checkChoice(t rapid.TB, d *image.Document) {
	t.Helper()
	for _, p := range []string{"linux/amd64", "linux/arm64/v9.2", "linux/arm/v7", "windows(10.0.1)/amd64"} {
		want, err := image.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Choose(want)
		if err != nil {
			wantOneLine(t, err)
			continue
		}
		found := false
		for _, m := range d.Manifests {
			found = found || m.Digest == got.Digest
		}
		if !found || !image.IsManifest(got.MediaType) {
			t.Errorf("Choose(%s) = %+v, which is no manifest of the index", p, got)
		}
	}
}

func FuzzParsePlatform(f *testing.F) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7", "windows(10.0.1)/amd64", "linux/arm64/v9.1", "a/b/c/d", "()/a", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := image.ParsePlatform(s)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		d := &image.Document{Index: true, Manifests: []ocispec.Descriptor{{MediaType: ociManifest, Platform: &p}}}
		if _, err := d.Choose(p); err != nil && p.OS != "unknown" {
			t.Errorf("ParsePlatform(%q) = %+v, which does not match itself: %v", s, p, err)
		}
	})
}

func FuzzLayerName(f *testing.F) {
	f.Add(0, ocispec.MediaTypeImageLayerGzip)
	f.Add(-1, "")
	f.Fuzz(func(t *testing.T, i int, mediaType string) {
		name := image.LayerName(i, mediaType)
		for _, c := range name {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
				t.Errorf("LayerName(%d, %q) = %q", i, mediaType, name)
			}
		}
	})
}

// FuzzCheckTitle checks that a title which is taken leads to a file below the
// directory in which it is looked up, by names that can be a file's.
func FuzzCheckTitle(f *testing.F) {
	for _, s := range []string{"a/b.bin", "../a", "/", "a//b", "a/.", "\x00", "sha256:" + strings.Repeat("0", 64) + "/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, title string) {
		if err := image.CheckTitle(title); err != nil {
			wantOneLine(t, err)
			return
		}
		if !iofs.ValidPath(strings.ToValidUTF8(title, "x")) || title == "." || strings.Contains(title, "\x00") || len(title) > 4096 {
			t.Errorf("CheckTitle(%q) = nil", title)
		}
	})
}
