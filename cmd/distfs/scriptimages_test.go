package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"distfs/content"
	"distfs/internal/testlayer"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// images has the registry hold, all below apps/,
//
//	multi:1     an index $MULTI of $MULTI_HOST for this machine, whose layers are $LOWER and $UPPER, and $MULTI_OTHER
//	            for riscv64; and $MULTI_PROOF, an attestation of $MULTI_HOST
//	signed:1    $SIGNED, which $SIGNATURE refers to, and to that $COUNTERSIGNATURE
//	foreign:1   an image of $LOWER, and of $UPPER as a foreign layer, which lies in another registry
//	many:1-20   the same as apps/many
//	nested:1    an index of an index of $MULTI_HOST
//	docker:1    $LIST, docker's kind of index, of $MULTI_HOST
//	deep:1      an index six deep
//	artifact:1  a blob $BLOB with an empty config
//	cosign:1    an image's config, and a layer that is none
//	old:1       docker's schema 1
//	lies:1      an image whose manifest says that $LOWER has a byte more
//	wrong:1     one whose config has another diffID for $UPPER
//	short:1     one whose config has no diffID for $UPPER
//	mainframe:1 one of $LOWER whose config is for s390x
//	large:1     one of $LOWER and $LARGE, a tar of more than 5 MiB
func cmdImages(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	m := &maker{t: t, ts: ts, reg: registryOf(ts)}
	lower := testlayer.Tar(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n"), testlayer.Reg("etc/b", "gone\n"))
	upper := testlayer.Tar(t, testlayer.Dir("etc"), testlayer.Reg("etc/.wh.b", ""), testlayer.Reg("etc/a", "two\n"),
		testlayer.Reg("stargz.index.json", "{}"), testlayer.Reg(".prefetch.landmark", "x"))
	noise, err := io.ReadAll(testregistry.Synthetic{Seed: 9, Size: 5 << 20}.From(0))
	ts.Check(err)
	large := testlayer.Tar(t, testlayer.Reg("large", string(noise)))
	ids := []digest.Digest{digest.FromBytes(lower), digest.FromBytes(upper)}

	m.repo = "apps/multi"
	l, u := m.layer("LOWER", lower), m.layer("UPPER", upper)
	host := m.image("MULTI_HOST", "", ids, l, u)
	host.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	other := m.image("MULTI_OTHER", "", ids[:1], l)
	other.Platform = &ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	proof := m.artifact("MULTI_PROOF", "", "application/vnd.in-toto+json", []byte("proof"))
	proof.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	proof.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": host.Digest.String()}
	m.index("MULTI", "1", host, other, proof)

	m.repo = "apps/signed"
	m.layer("", lower)
	signed := m.image("SIGNED", "1", ids[:1], l)
	signature := m.referrer("SIGNATURE", signed, "signature\n")
	m.referrer("COUNTERSIGNATURE", signature, "countersignature\n")

	elsewhere, _ := ts.Value(mirrorKey{}).(*testregistry.Registry)
	m.repo = "apps/foreign"
	far := ocispec.Descriptor{
		MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		Digest:    elsewhere.AddBlob("far", testlayer.Gzip(t, upper)), Size: int64(len(testlayer.Gzip(t, upper))),
	}
	far.URLs = []string{elsewhere.URL() + "/v2/far/blobs/" + far.Digest.String()}
	m.layer("", lower)
	m.image("", "1", ids, l, far)

	for i := range 20 {
		m.repo = "apps/many"
		m.layer("", lower)
		m.layer("", upper)
		m.image("", "", ids, l, u)
		m.image("", "", ids[:1], l)
		m.artifact("", "", "application/vnd.in-toto+json", []byte("proof"))
		m.index("", fmt.Sprint(i+1), host, other, proof)
	}

	m.repo = "apps/nested"
	m.layer("", lower)
	m.layer("", upper)
	inner := m.index("", "", m.image("", "", ids, l, u))
	inner.Platform = host.Platform
	m.index("NESTED", "1", inner)

	m.repo = "apps/docker"
	m.layer("", lower)
	m.layer("", upper)
	m.image("", "", ids, l, u)
	const list = "application/vnd.docker.distribution.manifest.list.v2+json"
	m.document("LIST", "1", list, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: list, Manifests: []ocispec.Descriptor{host}})

	m.repo = "apps/deep"
	at := m.artifact("", "", "text/plain", []byte("deep"))
	for range 5 {
		at = m.index("", "", at)
	}
	m.index("", "1", at)

	m.repo = "apps/artifact"
	m.artifact("ARTIFACT", "1", "text/plain", []byte("a blob\n"))
	ts.Setenv("BLOB", digest.FromString("a blob\n").String())

	m.repo = "apps/cosign"
	m.manifest("", "1", ocispec.Manifest{
		Config: m.blob(ocispec.MediaTypeImageConfig, []byte("{}")),
		Layers: []ocispec.Descriptor{m.blob("application/vnd.dev.cosign.simplesigning.v1+json", []byte("{}"))},
	})

	m.reg.AddManifest("apps/old", "1", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`))

	m.repo = "apps/lies"
	lying := m.layer("", lower)
	lying.Size++
	m.image("", "1", ids[:1], lying)

	m.repo = "apps/wrong"
	m.image("", "1", []digest.Digest{ids[0], ids[0]}, m.layer("", lower), m.layer("", upper))

	m.repo = "apps/short"
	m.image("", "1", ids[:1], m.layer("", lower), m.layer("", upper))

	m.repo = "apps/mainframe"
	m.layer("", lower)
	m.imageFor("s390x", "MAINFRAME", "1", ids[:1], l)

	m.repo = "apps/large"
	m.image("LARGE_IMAGE", "1", []digest.Digest{ids[0], digest.FromBytes(large)}, m.layer("", lower), m.blob(ocispec.MediaTypeImageLayer, large))
	ts.Setenv("LARGE", digest.FromBytes(large).String())
}

// A maker makes images in a repository, and names their digests for a script.
type maker struct {
	t    *testing.T
	ts   *testscript.TestScript
	reg  *testregistry.Registry
	repo string
}

func (m *maker) blob(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: m.reg.AddBlob(m.repo, b), Size: int64(len(b))}
}

func (m *maker) layer(name string, tar []byte) ocispec.Descriptor {
	m.t.Helper()
	return m.named(name, m.blob(ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(m.t, tar)))
}

func (m *maker) image(name, tag string, diffIDs []digest.Digest, layers ...ocispec.Descriptor) ocispec.Descriptor {
	return m.imageFor(runtime.GOARCH, name, tag, diffIDs, layers...)
}

func (m *maker) imageFor(arch, name, tag string, diffIDs []digest.Digest, layers ...ocispec.Descriptor) ocispec.Descriptor {
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: arch},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	m.ts.Check(err)
	return m.manifest(name, tag, ocispec.Manifest{Config: m.blob(ocispec.MediaTypeImageConfig, config), Layers: layers})
}

func (m *maker) artifact(name, tag, mediaType string, b []byte) ocispec.Descriptor {
	return m.manifest(name, tag, ocispec.Manifest{
		ArtifactType: "application/vnd.test", Config: m.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{m.blob(mediaType, b)},
	})
}

// referrer makes what refers to another manifest.
func (m *maker) referrer(name string, subject ocispec.Descriptor, text string) ocispec.Descriptor {
	return m.manifest(name, "", ocispec.Manifest{
		ArtifactType: "application/vnd.test.signature", Subject: &subject, Config: m.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{m.blob("text/plain", []byte(text))},
	})
}

func (m *maker) manifest(name, tag string, man ocispec.Manifest) ocispec.Descriptor {
	man.Versioned, man.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	return m.document(name, tag, man.MediaType, man)
}

func (m *maker) index(name, tag string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	return m.document(name, tag, ocispec.MediaTypeImageIndex,
		ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
}

func (m *maker) document(name, tag, mediaType string, doc any) ocispec.Descriptor {
	b, err := json.Marshal(doc)
	m.ts.Check(err)
	return m.named(name, ocispec.Descriptor{MediaType: mediaType, Digest: m.reg.AddManifest(m.repo, tag, mediaType, b), Size: int64(len(b))})
}

func (m *maker) named(name string, desc ocispec.Descriptor) ocispec.Descriptor {
	if name != "" {
		m.ts.Setenv(name, desc.Digest.String())
	}
	return desc
}

// entry NAME DIGEST: index.json has the one for NAME once. Without a digest it
// has none.
func cmdEntry(ts *testscript.TestScript, _ bool, args []string) {
	store, err := content.Open(ts.Getenv("DISTFS_STORE"))
	ts.Check(err)
	defer store.Close()
	images, err := store.Images()
	ts.Check(err)
	var found []string
	for _, image := range images {
		if image.Annotations[ocispec.AnnotationRefName] == args[0] {
			found = append(found, image.Digest.String())
		}
	}
	if got, want := strings.Join(found, " "), strings.Join(args[1:], " "); got != want {
		ts.Fatalf("index.json has %q for %s, want %q", got, args[0], want)
	}
}

// entries N: index.json has so many images.
func cmdEntries(ts *testscript.TestScript, _ bool, args []string) {
	store, err := content.Open(ts.Getenv("DISTFS_STORE"))
	ts.Check(err)
	defer store.Close()
	images, err := store.Images()
	ts.Check(err)
	if got := fmt.Sprint(len(images)); got != args[0] {
		ts.Fatalf("index.json has %s images, want %s", got, args[0])
	}
}

// sentonce DIGEST: of the object all bytes were sent, and none of them twice.
func cmdSentOnce(ts *testscript.TestScript, _ bool, args []string) {
	dgst := digest.Digest(args[0])
	info, err := os.Stat(ts.Getenv("DISTFS_STORE") + "/blobs/" + dgst.Algorithm().String() + "/" + dgst.Encoded())
	ts.Check(err)
	if n := registryOf(ts).Sent(dgst); n != info.Size() {
		ts.Fatalf("%s: %d bytes were sent of %d, by %q", dgst, n, info.Size(), registryOf(ts).Ranges(dgst))
	}
}
