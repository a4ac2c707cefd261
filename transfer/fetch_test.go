package transfer_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/image"
	"distfs/locator"
	"distfs/transfer"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const layerType = ocispec.MediaTypeImageLayer

// TestFetch brings what is chosen of an index, and names it.
func TestFetch(t *testing.T) {
	host, arm, s390 := image.HostPlatform(), ocispec.Platform{OS: "linux", Architecture: "riscv64"}, ocispec.Platform{OS: "linux", Architecture: "s390x"}
	s := newSource(t)
	on := func(p ocispec.Platform, desc ocispec.Descriptor) ocispec.Descriptor {
		desc.Platform = &p
		return desc
	}
	a, b, c := s.put(layerType, []byte("a")), s.put(layerType, []byte("b")), s.put(layerType, []byte("c"))
	one, two, three := on(host, s.image(a, b)), on(arm, s.image(b, b)), on(s390, s.image(c))
	nested := on(s390, s.index(three))
	proof := s.image(s.put("application/vnd.in-toto+json", []byte("proof")))
	proof.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	proof.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": one.Digest.String()}
	top := s.index(one, two, nested, proof)
	pair := s.index(one, two)
	s.tags["1"], s.tags["pair"], s.tags["one"] = top, pair, one
	full := func(dgst digest.Digest) string { return locator.Reference{Locator: repo, Digest: dgst}.String() }
	for name, c := range map[string]struct {
		tag  string
		opts *transfer.FetchOptions
		want map[string]digest.Digest
	}{
		"the host's":    {"1", nil, map[string]digest.Digest{"example.com/app:1": one.Digest}},
		"no index":      {"one", nil, map[string]digest.Digest{"example.com/app:one": one.Digest}},
		"another's":     {"1", &transfer.FetchOptions{Platforms: []ocispec.Platform{s390}}, map[string]digest.Digest{"example.com/app:1": three.Digest}},
		"two":           {"1", &transfer.FetchOptions{Platforms: []ocispec.Platform{arm, host, arm}}, map[string]digest.Digest{"example.com/app:1": two.Digest, full(one.Digest): one.Digest}},
		"all there are": {"pair", &transfer.FetchOptions{Platforms: []ocispec.Platform{arm, host}}, map[string]digest.Digest{"example.com/app:pair": pair.Digest}},
		"all":           {"1", &transfer.FetchOptions{AllPlatforms: true}, map[string]digest.Digest{"example.com/app:1": top.Digest}},
	} {
		t.Run(name, func(t *testing.T) {
			s.images, s.opened, s.t = make(map[string]ocispec.Descriptor), nil, t
			desc, err := transfer.Fetch(t.Context(), s, tagged(c.tag), c.opts)
			if err != nil || desc.Digest != s.tags[c.tag].Digest {
				t.Fatalf("Fetch = %v, %v, want %v", desc, err, s.tags[c.tag].Digest)
			}
			got := make(map[string]digest.Digest)
			for name, desc := range s.images {
				got[name] = desc.Digest
				if hasPlatform := desc.Platform != nil; hasPlatform != (desc.MediaType == ocispec.MediaTypeImageManifest && c.tag != "one") {
					t.Errorf("%s is entered with the platform %v", name, desc.Platform)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("images (want, got):\n%s", diff)
			}
			if all := slices.Contains(s.opened, proof.Digest); all != (name == "all") {
				t.Errorf("the attestation was opened: %v", all)
			}
			s.done()
		})
	}
}

// TestReferrers takes along what refers to the image, and to that.
func TestReferrers(t *testing.T) {
	s := newSource(t)
	img := s.image(s.put(layerType, []byte("a")))
	img.Platform = &ocispec.Platform{OS: image.HostPlatform().OS, Architecture: image.HostPlatform().Architecture}
	proof := s.image(s.put("application/vnd.in-toto+json", []byte("proof")))
	proof.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": img.Digest.String()}
	other := s.image(s.put(layerType, []byte("other")))
	other.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	s.tags["1"] = s.index(img, other, proof)
	sbom, signature := s.image(s.put("text/spdx", []byte("sbom"))), s.image(s.put("application/sig", []byte("signature")))
	refer := map[digest.Digest][]ocispec.Descriptor{img.Digest: {sbom}, sbom.Digest: {signature}, signature.Digest: {sbom}}
	_, err := transfer.Fetch(t.Context(), s, tagged("1"), &transfer.FetchOptions{
		Referrers: func(_ context.Context, _ locator.Locator, dgst digest.Digest) ([]ocispec.Descriptor, error) {
			return refer[dgst], nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]ocispec.Descriptor{
		"example.com/app:1": img, "example.com/app@" + sbom.Digest.String(): sbom,
		"example.com/app@" + signature.Digest.String(): signature, "example.com/app@" + proof.Digest.String(): proof,
	} {
		if s.images[name].Digest != want.Digest {
			t.Errorf("%s is %s, want %s", name, s.images[name].Digest, want.Digest)
		}
	}
	if len(s.images) != 4 || slices.Contains(s.opened, other.Digest) {
		t.Errorf("%d images, want 4, without another platform's", len(s.images))
	}
	s.done()
}

// TestHostile refuses what is too much before it is fetched.
func TestHostileImages(t *testing.T) {
	s := newSource(t)
	layer := s.put(layerType, []byte("layer"))
	some := func(n, size int, from int) (all []ocispec.Descriptor) {
		for i := range n {
			all = append(all, ocispec.Descriptor{MediaType: layerType, Digest: digest.FromString(fmt.Sprint(from + i)), Size: int64(size)})
		}
		return all
	}
	huge := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("huge"), Size: image.MaxBytes + 1}
	twice := layer
	twice.Size++
	manifests := some(9, image.MaxBytes, 0)
	for i := range manifests {
		manifests[i].MediaType = ocispec.MediaTypeImageManifest
	}
	old := huge
	old.MediaType, old.Size = "application/vnd.docker.distribution.manifest.v1+json", 10
	deep := s.image(layer)
	for range 5 {
		deep = s.index(deep)
	}
	for name, c := range map[string]struct {
		desc ocispec.Descriptor
		want string
		kind error
	}{
		"too many objects":      {s.index(s.image(some(6000, 1, 0)...), s.image(some(6000, 1, 6000)...)), "more than 10000 objects", syscall.EIO},
		"too many bytes":        {s.index(s.image(some(1, 1<<62, 0)...), s.image(some(1, 1<<62, 1)...)), "more than 2^63 bytes", syscall.EIO},
		"a large manifest":      {s.index(huge), "a manifest of 4194305 bytes", syscall.EIO},
		"the top":               {huge, "a manifest of 4194305 bytes", syscall.EIO},
		"many large ones":       {s.index(manifests...), "more than 33554432 bytes together", syscall.EIO},
		"one of two sizes":      {s.index(s.image(layer), s.image(twice)), "is said to have 5 bytes, and 6", syscall.EIO},
		"not its size":          {s.image(twice), "has 5 bytes, and not 6 as the manifest says", syscall.EIO},
		"nested deep":           {deep, "more than 4 deep", syscall.EIO},
		"schema 1 at the top":   {old, "schema 1", nil},
		"schema 1 in an index":  {s.index(old), "schema 1", nil},
		"of an unknown type":    {s.put("application/vnd.oci.artifact.manifest.v1+json", []byte("{}")), "neither a manifest's nor an index's", nil},
		"absent":                {s.image(some(1, 1, 0)...), "", iofs.ErrNotExist},
		"no manifest":           {s.put(ocispec.MediaTypeImageManifest, []byte("<html>")), "is no JSON", nil},
		"of another media type": {s.put(ocispec.MediaTypeImageIndex, s.blobs[s.image(layer).Digest]), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s.images, s.opened, s.t = make(map[string]ocispec.Descriptor), nil, t
			s.tags["1"] = c.desc
			_, err := transfer.Fetch(t.Context(), s, tagged("1"), &transfer.FetchOptions{AllPlatforms: true})
			if err == nil || !strings.Contains(err.Error(), c.want) || c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %q, a %v", err, c.want, c.kind)
			}
			if slices.Contains(s.opened, digest.FromString("huge")) || slices.Contains(s.opened, digest.FromString("1")) {
				t.Errorf("what is refused was opened")
			}
			if len(s.images) != 0 {
				t.Errorf("%d images were entered, want none", len(s.images))
			}
			s.done()
		})
	}
}

// TestManyObjects has few of them open at a time, and tells of each until it is done.
func TestManyObjects(t *testing.T) {
	s := newSource(t)
	gate, full := make(chan struct{}), make(chan struct{}, 100)
	s.gates[""], s.atPeak = full, 8
	var layers []ocispec.Descriptor
	for i := range 100 {
		layers = append(layers, s.put(layerType, []byte(fmt.Sprint(i))))
		s.gates[layers[i].Digest] = gate
	}
	go func() { <-full; close(gate) }()
	s.tags["1"] = s.image(layers...)
	var mu sync.Mutex
	told := make(map[string][]transfer.Event)
	report := func(e transfer.Event) {
		mu.Lock()
		defer mu.Unlock()
		told[e.Ref] = append(told[e.Ref], e)
	}
	if _, err := transfer.Fetch(t.Context(), s, tagged("1"), &transfer.FetchOptions{Report: report}); err != nil {
		t.Fatal(err)
	}
	if s.peak != 8 {
		t.Errorf("%d objects were open at once, want 8", s.peak)
	}
	if len(told) != 103 { // the reference, the manifest, its config and layers
		t.Errorf("%d objects were told of, want 103", len(told))
	}
	for ref, events := range told {
		first, last := events[0], events[len(events)-1]
		if first.State != transfer.Waiting && first.State != transfer.Resolving || last.State != transfer.Done || last.Offset != last.Desc.Size {
			t.Errorf("%s: first %v, last %v", ref, first, last)
		}
	}
	s.done()
}

// TestVerifyingIsTold: what is here wholly, and is hashed, is told to be verified,
// and is not done before.
func TestVerifyingIsTold(t *testing.T) {
	s := newSource(t)
	layer := s.put(layerType, []byte("abc"))
	s.hashing[layer.Digest] = true
	gate := make(chan struct{})
	s.gates[layer.Digest] = gate
	s.tags["1"] = s.image(layer)
	var open sync.Once
	report := func(e transfer.Event) {
		if e.Desc.Digest == layer.Digest && e.State == transfer.Verifying && e.Offset == 3 {
			open.Do(func() { close(gate) }) // nothing else ends Fetch
		}
	}
	if _, err := transfer.Fetch(t.Context(), s, tagged("1"), &transfer.FetchOptions{Report: report}); err != nil {
		t.Fatal(err)
	}
	s.done()
}

// TestFetchCanceled opens nothing more, and enters nothing.
func TestFetchCanceled(t *testing.T) {
	s := newSource(t)
	layer := s.put(layerType, []byte("a"))
	s.gates[layer.Digest] = make(chan struct{}) // never
	s.tags["1"] = s.image(layer)
	ctx, cancel := context.WithCancel(t.Context())
	report := func(e transfer.Event) {
		if e.Desc.Digest == layer.Digest {
			cancel()
		}
	}
	if _, err := transfer.Fetch(ctx, s, tagged("1"), &transfer.FetchOptions{Report: report}); !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch = %v, want context.Canceled", err)
	}
	if len(s.images) != 0 {
		t.Errorf("%d images were entered, want none", len(s.images))
	}
	s.done()
}

// TestFetchLayerThatIsAManifest has the host's image name the other platform's
// manifest as its layer: that it is here does not make the index whole, of which
// that manifest's own layer was never asked for.
func TestFetchLayerThatIsAManifest(t *testing.T) {
	s := newSource(t)
	secret := s.put(ocispec.MediaTypeImageLayer, []byte("what a private repository has"))
	other := s.image(secret)
	asLayer := other
	asLayer.MediaType = ocispec.MediaTypeImageLayer
	hosts := s.image(asLayer)
	platform := image.HostPlatform()
	hosts.Platform, other.Platform = &platform, &ocispec.Platform{OS: "plan9", Architecture: "mips"}
	s.tags["1"] = s.index(hosts, other)
	if _, err := transfer.Fetch(context.Background(), s, tagged("1"), nil); err != nil {
		t.Fatal(err)
	}
	if got := s.images[tagged("1").String()].Digest; got != hosts.Digest {
		t.Errorf("the name is %s's, want the host's manifest %s", got, hosts.Digest)
	}
	_, err := transfer.Fetch(context.Background(), s, tagged("1"), &transfer.FetchOptions{AllPlatforms: true})
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("Fetch of all platforms = %v, want EIO", err)
	}
}

// TestFetchKeepsWhole leaves an index its name when less of it is asked for, until
// the name is another one's.
func TestFetchKeepsWhole(t *testing.T) {
	s := newSource(t)
	image1, image2 := s.image(s.put(layerType, []byte("1"))), s.image(s.put(layerType, []byte("2")))
	platform := image.HostPlatform()
	image1.Platform, image2.Platform = &platform, &ocispec.Platform{OS: "plan9", Architecture: "mips"}
	index := s.index(image1, image2)
	named := func(want digest.Digest, opts *transfer.FetchOptions) {
		t.Helper()
		s.opened = nil
		if _, err := transfer.Fetch(context.Background(), s, tagged("1"), opts); err != nil {
			t.Fatal(err)
		}
		if got := s.images[tagged("1").String()].Digest; got != want {
			t.Errorf("the name is %s's, want %s's", got, want)
		}
	}
	s.tags["1"] = index
	named(image1.Digest, nil)
	named(index.Digest, &transfer.FetchOptions{AllPlatforms: true})
	named(index.Digest, nil)
	named(index.Digest, &transfer.FetchOptions{Platforms: []ocispec.Platform{*image2.Platform}})
	s.tags["1"] = s.index(image2, image1)
	named(image1.Digest, nil)
}

// TestFetchTwoKinds refuses an index that names a manifest as something else too,
// before it or behind it.
func TestFetchTwoKinds(t *testing.T) {
	s := newSource(t)
	m := s.image(s.put(ocispec.MediaTypeImageLayer, []byte("layer")))
	other := m
	other.MediaType = "application/x"
	for name, index := range map[string]ocispec.Descriptor{"before": s.index(other, m), "behind": s.index(m, other)} {
		s.tags["1"] = index
		_, err := transfer.Fetch(context.Background(), s, tagged("1"), &transfer.FetchOptions{AllPlatforms: true})
		if !errors.Is(err, syscall.EIO) || len(s.images) > 0 {
			t.Errorf("%s: Fetch = %v, and index.json has %v; want EIO and nothing", name, err, s.images)
		}
	}
}
