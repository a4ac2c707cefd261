package image_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"distfs/image"
)

const (
	dgstA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	dgstB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	dgstC = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

	ociManifest    = ocispec.MediaTypeImageManifest
	ociIndex       = ocispec.MediaTypeImageIndex
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// desc returns a descriptor in JSON; more, if any, begins with a comma.
func desc(mediaType, dgst string, size int, more string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, dgst, size, more)
}

func configDesc() string { return desc(ocispec.MediaTypeImageConfig, dgstA, 10, "") }
func layerDesc() string  { return desc(ocispec.MediaTypeImageLayerGzip, dgstB, 20, "") }

// manifest returns a manifest whose fields before config are head.
func manifest(head string) string {
	return `{` + head + `"schemaVersion":2,"config":` + configDesc() + `,"layers":[` + layerDesc() + `]}`
}

func index(head string, manifests ...string) string {
	return `{` + head + `"schemaVersion":2,"manifests":[` + strings.Join(manifests, ",") + `]}`
}

func mediaType(t string) string { return `"mediaType":"` + t + `",` }

func TestParseManifest(t *testing.T) {
	b := ` {
	  "schemaVersion": 2,
	  "mediaType": "` + ociManifest + `",
	  "artifactType": "application/vnd.example",
	  "config": ` + desc(ocispec.MediaTypeEmptyJSON, string(ocispec.DescriptorEmptyJSON.Digest), 2, `,"data":"e30="`) + `,
	  "layers": [
	    ` + desc("application/x+json", dgstB, 20, `,"annotations":{"org.opencontainers.image.title":"a/b.bin"},"urls":["https://a.test/b"],"artifactType":null`) + ` ,
	    ` + desc("application/x+json", dgstB, 20, `,"urls":null,"platform":null,"annotations":null,"data":null,"x-unknown":{"a":[1]}`) + `
	  ],
	  "subject": ` + desc(ociManifest, dgstC, 30, "") + `,
	  "annotations": {"a": "1", "": "", "\u0000": "z"},
	  "unknown": [{"layers": null}], "history": {}
	}
	`
	got, err := image.Parse(ociManifest, []byte(b))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	config := ocispec.DescriptorEmptyJSON
	want := &image.Document{
		MediaType:    ociManifest,
		ArtifactType: "application/vnd.example",
		Config:       &config,
		Layers: []ocispec.Descriptor{
			{
				MediaType: "application/x+json", Digest: dgstB, Size: 20, URLs: []string{"https://a.test/b"},
				Annotations: map[string]string{"org.opencontainers.image.title": "a/b.bin"},
			},
			{MediaType: "application/x+json", Digest: dgstB, Size: 20},
		},
		Subject:     &ocispec.Descriptor{MediaType: ociManifest, Digest: dgstC, Size: 30},
		Annotations: map[string]string{"a": "1", "": "", "\x00": "z"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	var all []digest.Digest
	for d := range got.Descriptors() {
		all = append(all, d.Digest)
	}
	if want := []digest.Digest{config.Digest, dgstB, dgstB, dgstC}; !slices.Equal(all, want) {
		t.Errorf("Descriptors() = %v, want %v", all, want)
	}
	for range got.Descriptors() {
		break
	}
}

func TestParseIndex(t *testing.T) {
	b := index(mediaType(ociIndex),
		desc(ociManifest, dgstA, 1, `,"platform":{"architecture":"arm64","os":"linux","variant":"v8","features":["x"]}`),
		desc(ociManifest, dgstB, 2, `,"platform":{"architecture":"amd64","os":"windows","os.version":"10.0.1.2","os.features":["win32k"]}`),
		desc(ociIndex, dgstC, 3, ""))
	got, err := image.Parse("", []byte(b))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	want := &image.Document{
		MediaType: ociIndex,
		Index:     true,
		Manifests: []ocispec.Descriptor{
			{MediaType: ociManifest, Digest: dgstA, Size: 1, Platform: &ocispec.Platform{Architecture: "arm64", OS: "linux", Variant: "v8"}},
			{MediaType: ociManifest, Digest: dgstB, Size: 2, Platform: &ocispec.Platform{Architecture: "amd64", OS: "windows", OSVersion: "10.0.1.2", OSFeatures: []string{"win32k"}}},
			{MediaType: ociIndex, Digest: dgstC, Size: 3},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	for range got.Descriptors() {
		break
	}
}

func TestParseMediaType(t *testing.T) {
	dockerConfig := desc("application/vnd.docker.container.image.v1+json", dgstA, 10, "")
	for _, c := range []struct{ declared, doc, want string }{
		{"", manifest(""), ociManifest},
		{"", manifest(mediaType(ociManifest)), ociManifest},
		{"", manifest(mediaType(dockerManifest)), dockerManifest},
		{"", manifest(`"mediaType":null,`), ociManifest},
		{"", manifest(`"mediaType":"",`), ociManifest},
		{"", `{"config":` + dockerConfig + `,"layers":[]}`, dockerManifest},
		{"", index(""), ociIndex},
		{"", index(mediaType(dockerList)), dockerList},
		{ociManifest, manifest(""), ociManifest},
		{dockerManifest, manifest(""), dockerManifest},
		{dockerManifest, manifest(mediaType(dockerManifest)), dockerManifest},
		{ociIndex, index(""), ociIndex},
		{dockerList, index(""), dockerList},
		{"application/json", manifest(""), ociManifest},
		{"application/json; charset=utf-8", index(mediaType(ociIndex)), ociIndex},
		{"application/octet-stream", manifest(mediaType(dockerManifest)), dockerManifest},
		{"text/plain; charset=utf-8", manifest(""), ociManifest},
		{strings.ToUpper(ociManifest) + " ; q=1", manifest(mediaType(ociManifest)), ociManifest},
	} {
		d, err := image.Parse(c.declared, []byte(c.doc))
		if err != nil {
			t.Errorf("Parse(%q, %s): %v", c.declared, c.doc, err)
			continue
		}
		if d.MediaType != c.want || d.Index != image.IsIndex(c.want) {
			t.Errorf("Parse(%q, %s) is %q, %t, want %q", c.declared, c.doc, d.MediaType, d.Index, c.want)
		}
	}
}

// refusal is a document that Parse refuses, and part of the reason.
type refusal struct{ doc, why string }

func wantRefused(t *testing.T, declared string, cases []refusal) {
	t.Helper()
	for _, c := range cases {
		d, err := image.Parse(declared, []byte(c.doc))
		if err == nil {
			t.Errorf("Parse(%q, %.300s) = %+v, want an error with %q", declared, c.doc, d, c.why)
			continue
		}
		var e *image.Error
		if !errors.As(err, &e) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("Parse(%q, %.300s): %v, want an *image.Error with %q", declared, c.doc, err, c.why)
		}
		wantOneLine(t, err)
	}
}

func wantOneLine(t rapid.TB, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 4000 {
		t.Errorf("error of %d bytes: %.100s", len(text), text)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Errorf("error %.200q has the byte %#x", text, text[i])
			return
		}
	}
}

func TestParseRefusesBytes(t *testing.T) {
	wantRefused(t, "", []refusal{
		{"", "is no JSON"},
		{"\xef\xbb\xbf" + manifest(""), "is no JSON"},
		{manifest("") + "{}", "is no JSON"},
		{manifest("") + "x", "is no JSON"},
		{manifest("")[1:], "is no JSON"},
		{strings.Repeat("[", 1<<20), "is no JSON"},
		{manifest("") + strings.Repeat(" ", image.MaxBytes), "larger than 4 MiB"},
		{"null", "is no object"},
		{"[]", "is no object"},
		{`"x"`, "is no object"},
		{"1", "is no object"},
		{"{}", "neither a manifest nor an index"},
		{`{"schemaVersion":2}`, "neither a manifest nor an index"},
		{`{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, "neither a manifest nor an index"},
	})
	if _, err := image.Parse("", []byte(manifest("")+strings.Repeat(" ", image.MaxBytes-len(manifest(""))))); err != nil {
		t.Errorf("Parse of 4 MiB: %v", err)
	}
}

func TestParseRefusesKinds(t *testing.T) {
	schema1 := `{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[{"blobSum":"` + dgstA + `"}],"history":[]}`
	both := `{"manifests":[],"config":` + configDesc() + `,"layers":[]}`
	wantRefused(t, "", []refusal{
		{schema1, "docker's schema 1"},
		{`{"fsLayers":null}`, "docker's schema 1"},
		{manifest(mediaType("application/vnd.docker.distribution.manifest.v1+json")), "docker's schema 1"},
		{`{"schemaVersion":3}`, "schemaVersion: is 3"},
		{`{"schemaVersion":"2"}`, "schemaVersion: is no number"},
		{`{"schemaVersion":null}`, "schemaVersion: is no"},
		{`{"schemaVersion":2.5}`, "schemaVersion: \"2.5\" is no whole number"},
		{both, "is ambiguous"},
		{`{"manifests":null,"layers":[]}`, "manifests: is no array"},
		{index(`"layers":[],`), "is ambiguous"},
		{index(`"config":` + configDesc() + `,`), "is ambiguous"},
		{manifest(mediaType(ociIndex)), "config: contradicts the media type"},
		{index(mediaType(ociManifest)), "manifests: contradicts the media type"},
		{`{` + mediaType(ociManifest) + `"config":` + configDesc() + `}`, "layers: is missing"},
		{`{` + mediaType(ociManifest) + `"layers":[]}`, "config: is missing"},
		{`{"layers":[]}`, "config: is missing"},
		{`{"layers":[],"config":` + desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", dgstA, 10, "") + `}`, "config: is of the media type of a layer"},
		{`{` + mediaType(ociIndex) + `"schemaVersion":2}`, "manifests: is missing"},
		{manifest(mediaType("application/vnd.oci.artifact.manifest.v1+json")), "is neither a manifest's nor an index's"},
		{manifest(`"mediaType":"\u001b[2J",`), `"\x1b[2j" is neither`},
		{manifest(`"mediaType":7,`), "mediaType: is no string"},
	})
	wantRefused(t, ociManifest, []refusal{
		{index(""), "manifests: contradicts the media type"},
		{index(mediaType(ociIndex)), "but was declared as"},
		{manifest(mediaType(dockerManifest)), "but was declared as"},
		{both, "is ambiguous"},
	})
	wantRefused(t, dockerList, []refusal{
		{manifest(""), "contradicts the media type"},
		{both, "is ambiguous"},
	})
	wantRefused(t, "application/vnd.docker.distribution.manifest.v1+prettyjws", []refusal{{manifest(""), "docker's schema 1"}})
	wantRefused(t, ocispec.MediaTypeImageLayerGzip, []refusal{{manifest(""), "is neither a manifest's nor an index's"}})
	wantRefused(t, "text/html", []refusal{{manifest(""), `"text/html" is neither`}})
}

func TestParseRefusesKeys(t *testing.T) {
	wantRefused(t, "", []refusal{
		{manifest(`"layers":[],`), `has "layers" twice`},
		{manifest(`"layers":null,`), "layers: is no array"},
		{manifest(`"x":1,"x":2,`), `has "x" twice`},
		{manifest(`"\u0078":1,"x":2,`), `has "x" twice`},
		{manifest(`"Layers":[],`), `has "Layers", which is spelled "layers"`},
		{manifest(`"MANIFESTS":[],`), `spelled "manifests"`},
		{manifest(`"conf\u0131g":[],"Config":1,`), `spelled "config"`},
		{manifest(`"\u017fubject":null,`), `spelled "subject"`}, // a long s folds to s
		{index("", `{"MediaType":"a/b"}`), `manifests[0]: has "MediaType"`},
		{index("", `{"size":1,"size":1}`), `manifests[0]: has "size" twice`},
		{manifest(`"annotations":{"a":"1","a":"2"},`), `annotations: has "a" twice`},
		{manifest(`"annotations":{"a":1},`), `annotations.a: is no string`},
		{manifest(`"annotations":{"a":null},`), `annotations.a: is null`},
		{manifest(`"annotations":{"\n ":1},`), `annotations."\n ": is no string`},
		{manifest(`"annotations":{"` + strings.Repeat("k", 9999) + `":1},`), `(9999 bytes)`},
		{manifest(`"annotations":[],`), `annotations: is no object`},
		{manifest(`"subject":[],`), `subject: is no object`},
		{manifest(`"subject":{},`), `subject: has no mediaType`},
		{manifest(`"artifactType":{},`), `artifactType: is no string`},
		{manifest(`"artifactType":"a\r\nb",`), `artifactType: "a\r\nb" is no media type`},
	})
}
