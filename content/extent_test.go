package content_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"distfs/content"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestExtent(t *testing.T) {
	s := newStore(t)
	put := func(b []byte) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: plant(t, s, b, 0), Size: int64(len(b))}
	}
	absent := ocispec.Descriptor{MediaType: "application/x", Digest: digest.FromString("absent"), Size: 1000}
	config, layer := put([]byte("config")), put([]byte("a layer"))
	whole := put(marshal(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer, layer}}))
	lacking := put(marshal(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{absent, layer}}))
	referrer := put(marshal(ocispec.Manifest{Config: config, Subject: &absent}))
	index := put(marshal(ocispec.Index{Manifests: []ocispec.Descriptor{whole, lacking, {Digest: "no:digest"}}}))
	broken := put([]byte(`{"layers":{`))
	hostile := put(marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{{Digest: absent.Digest, Size: -5}}}))
	deep, size := lacking, int64(0)
	for range 9 { // more than any way in takes
		deep = put(marshal(ocispec.Index{Manifests: []ocispec.Descriptor{deep}}))
		size += deep.Size
	}
	layers := put(marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{lacking}}))
	foreign := absent
	foreign.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	others := put(marshal(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{foreign}}))
	twoWays := put(marshal(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{foreign, absent}}))
	both := put(marshal(map[string]any{"layers": []ocispec.Descriptor{lacking}, "manifests": []ocispec.Descriptor{lacking}}))

	missing := []ocispec.Descriptor{absent}
	for _, tt := range []struct {
		name  string
		image ocispec.Descriptor
		want  content.Extent
	}{
		{"whole", whole, content.Extent{Blobs: 3, Size: whole.Size + config.Size + layer.Size}},
		{"lacking", lacking, content.Extent{Blobs: 4, Size: lacking.Size + config.Size + layer.Size + 1000, Missing: missing, Absent: 1}},
		{"subject", referrer, content.Extent{Blobs: 2, Size: referrer.Size + config.Size}},
		{"index", index, content.Extent{Blobs: 6, Size: index.Size + whole.Size + lacking.Size + config.Size + layer.Size + 1000, Missing: missing, Absent: 1}},
		{"absent", absent, content.Extent{Blobs: 1, Size: 1000, Missing: missing, Absent: 1}},
		{"broken", broken, content.Extent{Blobs: 1, Size: broken.Size}},
		{"hostile", hostile, content.Extent{Blobs: 2, Size: hostile.Size, Missing: []ocispec.Descriptor{{Digest: absent.Digest, Size: -5}}, Absent: 1}},
		{"deep", deep, content.Extent{Blobs: 13, Size: size + lacking.Size + config.Size + layer.Size + 1000, Missing: missing, Absent: 1}},
		{"named as layers", layers, content.Extent{Blobs: 2, Size: layers.Size + lacking.Size}},
		{"named as a layer, and as a manifest", both, content.Extent{Blobs: 5, Size: both.Size + lacking.Size + config.Size + layer.Size + 1000, Missing: missing, Absent: 1}},
		{"not for others to distribute", others, content.Extent{Blobs: 3, Size: others.Size + config.Size + 1000}},
		{"so, and not so", twoWays, content.Extent{Blobs: 3, Size: twoWays.Size + config.Size + 1000, Missing: missing, Absent: 1}},
		{"no digest", ocispec.Descriptor{Digest: "../x"}, content.Extent{}},
	} {
		got, err := s.Extent(tt.image)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: Extent (-want +got)\n%s", tt.name, diff)
		}
	}
}

// What an image's blobs are is told by what names them, not by their bytes; and what a manifest's lists hold is bounded.
func TestExtentOfHostileLists(t *testing.T) {
	s := newStore(t)
	bomb := func(i int) ocispec.Descriptor {
		b := fmt.Appendf(nil, `{"n":%d,"layers":[%s{}]}`, i, strings.Repeat("{},", 1_390_000))
		return ocispec.Descriptor{MediaType: "application/x", Digest: plant(t, s, b, 0), Size: int64(len(b))}
	}
	b := marshal(ocispec.Manifest{Config: bomb(0), Layers: []ocispec.Descriptor{bomb(1), bomb(2)}})
	image := ocispec.Descriptor{Digest: plant(t, s, b, 0)}
	for _, of := range []ocispec.Descriptor{image, bomb(0)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		x, err := s.Extent(of)
		runtime.ReadMemStats(&after)
		if err != nil || x.Absent != 0 {
			t.Errorf("Extent = %+v, %v, want all there", x, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
			t.Errorf("Extent of %d blobs allocates %d MiB, want 32 at most", x.Blobs, got>>20)
		}
	}
}
