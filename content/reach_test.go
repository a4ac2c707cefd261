package content_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeIndex replaces index.json by one that names digests, as who pulls images does.
func writeIndex(tb testing.TB, s *content.Store, digests ...digest.Digest) {
	tb.Helper()
	path := filepath.Join(s.Dir(), "index.json")
	if err := os.WriteFile(path+".new", indexOf(digests...), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

func indexOf(digests ...digest.Digest) []byte {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, dgst := range digests {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{Digest: dgst})
	}
	return marshal(index)
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of this test's own types
	}
	return b
}

func TestReachable(t *testing.T) {
	s := newStore(t)
	put := func(b []byte) digest.Digest { return plant(t, s, b, 0) }
	desc := func(dgst digest.Digest) ocispec.Descriptor { return ocispec.Descriptor{Digest: dgst} }
	absent := digest.FromString("absent")

	config, layer, other := put([]byte("config")), put([]byte("layer")), put([]byte("other"))
	manifest := put(marshal(ocispec.Manifest{Config: desc(config), Layers: []ocispec.Descriptor{desc(layer), desc(absent), desc("no:digest"), {}}}))
	index := put(indexOf(manifest, absent))
	subject := manifest
	referrer := put(marshal(ocispec.Manifest{Config: desc(config), Subject: &ocispec.Descriptor{Digest: subject}}))
	artifact := put(fmt.Appendf(nil, `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{"digest":%q}]}`, other))
	huge := put(append(marshal(ocispec.Manifest{Config: desc(config)}), make([]byte, 4*mib)...))
	broken := put([]byte(`{"layers":`))
	deep := []digest.Digest{index}
	for range 9 { // more than any way in takes
		deep = append(deep, put(indexOf(deep[len(deep)-1])))
	}

	layered := put(marshal(ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: manifest}}}))

	tests := []struct {
		name string
		in   []digest.Digest
		want []digest.Digest
	}{
		{"nothing", nil, nil},
		{"what is not there", []digest.Digest{absent, "no:digest", ""}, nil},
		{"a manifest", []digest.Digest{manifest}, []digest.Digest{manifest, config, layer}},
		{"an index", []digest.Digest{index}, []digest.Digest{index, manifest, config, layer}},
		{"a referrer", []digest.Digest{referrer}, []digest.Digest{referrer, manifest, config, layer}},
		{"an artifact", []digest.Digest{artifact}, []digest.Digest{artifact, other}},
		{"a blob", []digest.Digest{other}, []digest.Digest{other}},
		{"what can't be read keeps itself", []digest.Digest{broken, huge}, []digest.Digest{broken, huge}},
		{"deep", deep[len(deep)-1:], append([]digest.Digest{manifest, config, layer}, deep...)},
		{"a layer that is named as a manifest", []digest.Digest{layered}, []digest.Digest{layered, manifest}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeIndex(t, s, tt.in...)
			got, err := s.Reachable()
			if err != nil {
				t.Fatal(err)
			}
			for _, dgst := range tt.want {
				if _, ok := got[dgst]; !ok {
					t.Errorf("%s isn't reachable", dgst)
				}
				delete(got, dgst)
			}
			if len(got) > 0 {
				t.Errorf("these are reachable too: %v", got)
			}
		})
	}
}

// An index.json that isn't there names nothing.
func TestReachableWithoutIndex(t *testing.T) {
	s := newStore(t)
	if err := os.Remove(filepath.Join(s.Dir(), "index.json")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reachable(); err != nil || len(got) > 0 {
		t.Errorf("Reachable = %v, %v", got, err)
	}
}

// What a manifest names doesn't depend on its media type, and the types of image-spec agree.
func FuzzNames(f *testing.F) {
	f.Add(indexOf(digest.FromString("a"), digest.FromString("b")))
	f.Add(marshal(ocispec.Manifest{Config: ocispec.Descriptor{Digest: digest.FromString("c")}, Layers: []ocispec.Descriptor{{}}}))
	f.Add([]byte(`{"subject":{"digest":"sha256:"},"blobs":[null]}`))
	f.Add([]byte(`{"manifests":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		manifests, leaves := content.NamesIn(b)
		count := func(all []digest.Digest, dgst digest.Digest) (n int) {
			for _, have := range all {
				if have == dgst {
					n++
				}
			}
			return n
		}
		var m ocispec.Manifest
		if json.Unmarshal(b, &m) == nil && len(manifests)+len(leaves) > 0 {
			for _, l := range m.Layers {
				if count(leaves, l.Digest) == 0 {
					t.Errorf("layer %q isn't named by %q", l.Digest, b)
				}
			}
		}
		var x ocispec.Index
		if json.Unmarshal(b, &x) == nil && len(manifests)+len(leaves) > 0 {
			for _, l := range x.Manifests {
				if count(manifests, l.Digest) == 0 {
					t.Errorf("manifest %q isn't named by %q", l.Digest, b)
				}
			}
		}
	})
}
