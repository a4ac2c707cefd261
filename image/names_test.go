package image_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
)

func TestByPlatform(t *testing.T) {
	dgst := func(s string) digest.Digest { return digest.FromString(s) }
	hex := func(s string) string { return dgst(s).Encoded()[:12] }
	long := strings.Repeat("x", 200)
	type P = ocispec.Platform
	d := &image.Document{Index: true}
	add := func(of, mediaType string, p *P) {
		d.Manifests = append(d.Manifests, ocispec.Descriptor{MediaType: mediaType, Digest: dgst(of), Platform: p})
	}
	var want []string
	for _, c := range []struct {
		of, mediaType string
		p             *P
		want          string // "" is left out
	}{
		{"a", ociManifest, &P{OS: "linux", Architecture: "arm64", Variant: "v8"}, "linux-arm64-v8"},
		{"b", ociManifest, &P{OS: "linux", Architecture: "arm64"}, "linux-arm64"},
		{"c", dockerManifest, &P{OS: "windows", Architecture: "amd64", OSVersion: "10.0.1"}, "windows-amd64"},
		{"d", dockerManifest, &P{OS: "windows", Architecture: "amd64", OSVersion: "10.0.2"}, "windows-amd64-10.0.2"},
		{"e", dockerManifest, &P{OS: "windows", Architecture: "amd64", OSVersion: "10.0.2"}, "windows-amd64-" + hex("e")},
		{"f", ociManifest, &P{OS: "linux", Architecture: "arm64"}, "linux-arm64-" + hex("f")},
		{"f", ociManifest, &P{OS: "linux", Architecture: "arm64"}, ""}, // the same again
		{"g", ociManifest, &P{OS: "linux-arm64", Architecture: "v8"}, "linux-arm64-v8-" + hex("g")},
		{"h", ociManifest, nil, string(dgst("h"))},
		{"i", ociIndex, &P{OS: "linux", Architecture: "s390x"}, "linux-s390x"},
		{"j", ociManifest, &P{OS: "unknown", Architecture: "unknown"}, ""},
		{"k", ocispec.MediaTypeImageLayer, &P{OS: "linux", Architecture: "386"}, ""},
		{"l", ociManifest, &P{OS: "../..", Architecture: "amd64"}, string(dgst("l"))},
		{"m", ociManifest, &P{OS: "linux", Architecture: "a/b"}, string(dgst("m"))},
		{"n", ociManifest, &P{OS: "linux", Architecture: "arm64", Variant: "/"}, string(dgst("n"))},
		{"o", ociManifest, &P{OS: "", Architecture: "arm64"}, string(dgst("o"))},
		{"p", ociManifest, &P{OS: long, Architecture: long}, string(dgst("p"))},
		{"q", ociManifest, &P{OS: "windows", Architecture: "amd64", OSVersion: "../x"}, "windows-amd64-" + hex("q")},
		{"q", ociManifest, &P{OS: "darwin", Architecture: "amd64"}, "darwin-amd64"}, // for two platforms
	} {
		add(c.of, c.mediaType, c.p)
		if c.want != "" {
			want = append(want, c.want+" "+string(dgst(c.of)))
		}
	}
	var got []string
	for _, n := range d.ByPlatform() {
		got = append(got, n.Name+" "+string(n.Digest))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ByPlatform() (-want +got):\n%s", diff)
	}
}

func TestCheckTitle(t *testing.T) {
	for _, title := range []string{
		"a", "a/b.bin", ".a/..b", "...", "a b\n", "ü", `a\b`, "sha256:abc", "a/" + dgstA, strings.Repeat("x", 255), strings.Repeat("a/", 254) + "a",
	} {
		if err := image.CheckTitle(title); err != nil {
			t.Errorf("CheckTitle(%q) = %v", title, err)
		}
	}
	for title, why := range map[string]string{
		"": "empty", "/etc/passwd": "absolute", "a//b": "empty name", "a/": "empty name", ".": "has .", "..": "has ..", "a/../b": "has ..", "./a": "has .",
		"a/..": "has ..", "a\x00b": "NUL", "a/" + strings.Repeat("x", 256): "255 bytes", strings.Repeat("abcdefg/", 600): "4096", strings.Repeat("a/", 255) + "a": "deep",
		dgstA: "digest", dgstA + "/a": "digest",
	} {
		err := image.CheckTitle(title)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("CheckTitle(%.20q) = %v, want one with %q", title, err, why)
			continue
		}
		wantOneLine(t, err)
	}
}

func TestIsPlainType(t *testing.T) {
	for _, mediaType := range []string{"application/vnd.x+json", "a/b", "Text/X-y", "1/2", "a/" + strings.Repeat("x", 127)} {
		if !image.IsPlainType(mediaType) {
			t.Errorf("IsPlainType(%q) = false", mediaType)
		}
	}
	for _, mediaType := range []string{
		"", "a", "/", "a/", "/b", "../..", "a/..", "./b", "a/.b", "a/b/c", "a/b; c=d", "a/b c", "a/\x00", "a/+", "a/b:c", "ü/b", "a/" + strings.Repeat("x", 128),
	} {
		if image.IsPlainType(mediaType) {
			t.Errorf("IsPlainType(%q) = true", mediaType)
		}
	}
}

func TestAttestations(t *testing.T) {
	about := func(kind, of string) map[string]string {
		return map[string]string{"vnd.docker.reference.type": kind, "vnd.docker.reference.digest": of}
	}
	d := &image.Document{Index: true, Manifests: []ocispec.Descriptor{
		{MediaType: ociManifest, Digest: "a:1", Annotations: about("attestation-manifest", dgstA)},
		{MediaType: ociManifest, Digest: "a:2", ArtifactType: "a/b", Annotations: about("attestation-manifest", dgstA)},
		{MediaType: ociManifest, Digest: "a:3", Annotations: about("attestation-manifest", "a:1")},
		{MediaType: ociManifest, Digest: "a:4", Annotations: about("other", dgstA)},
		{MediaType: "text/plain", Digest: "a:5", Annotations: about("attestation-manifest", dgstA)},
	}}
	var got []string
	for of, desc := range d.Attestations() {
		got = append(got, string(of)+" "+string(desc.Digest)+" "+desc.ArtifactType)
	}
	want := []string{dgstA + " a:1 " + image.MediaTypeAttestation, dgstA + " a:2 a/b", "a:1 a:3 " + image.MediaTypeAttestation}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Attestations() (-want +got):\n%s", diff)
	}
}
