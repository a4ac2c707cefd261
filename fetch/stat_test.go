package fetch_test

import (
	"slices"
	"strings"
	"testing"

	"distfs/internal/testregistry"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestStatRequests: what is asked to learn an object's size, in which order, and
// for which types.
func TestStatRequests(t *testing.T) {
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	type requests []string // METHOD KIND
	for _, c := range []struct {
		name     string
		manifest bool
		hint     ocispec.Descriptor // but for its digest
		want     requests
		accept   string // of the last request, "" where all types will do
	}{
		{"a layer", false, ocispec.Descriptor{}, requests{"HEAD blob"}, ""},
		{"a layer by its type", false, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}, requests{"HEAD blob"}, ""},
		{"a manifest", true, ocispec.Descriptor{}, requests{"HEAD blob", "HEAD manifest"}, ""},
		{"a manifest by its type", true, ocispec.Descriptor{MediaType: docker}, requests{"HEAD manifest"}, docker},
		{"what a manifest names", false, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Size: 1000}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &testregistry.Options{Distribution2: true}, nil)
			want, _ := b.blob(1000)
			if c.manifest {
				m := []byte(`{"schemaVersion":2}`)
				want = ocispec.Descriptor{Digest: b.reg.AddManifest(b.loc.Path, "7", docker, m), Size: int64(len(m))}
			}
			c.hint.Digest = want.Digest
			got, err := b.f.Stat(ctx(t), b.loc, c.hint)
			if err != nil || got.Size != want.Size || c.hint.MediaType != "" && got.MediaType != c.hint.MediaType || c.manifest && got.MediaType != docker {
				t.Errorf("Stat = %+v, %v, want %d bytes", got, err, want.Size)
			}
			rs := b.reg.Requests()
			var asked requests
			for _, r := range rs {
				asked = append(asked, r.Method+" "+string(r.Kind))
			}
			if !slices.Equal(asked, c.want) {
				t.Fatalf("asked %q, want %q", asked, c.want)
			}
			for _, r := range rs {
				accept := strings.Join(r.Header["Accept"], ", ")
				if r.Kind == testregistry.Manifest && c.accept != "" && accept != c.accept {
					t.Errorf("Accept: %s, want %s alone", accept, c.accept)
				}
				if r.Kind == testregistry.Manifest && c.accept == "" && (!strings.Contains(accept, ocispec.MediaTypeImageIndex) || !strings.Contains(accept, docker)) {
					t.Errorf("Accept: %s, want all types of manifests", accept)
				}
			}
		})
	}
}
