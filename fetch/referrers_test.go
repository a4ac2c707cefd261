package fetch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// sbom is the n-th manifest that refers to subject.
func sbom(t *testing.T, subject digest.Digest, n int) ([]byte, ocispec.Descriptor) {
	t.Helper()
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.sbom",
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON},
		Subject:     &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 2},
		Annotations: map[string]string{"n": fmt.Sprint(n)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b)),
		ArtifactType: "application/vnd.sbom", Annotations: map[string]string{"n": fmt.Sprint(n)},
	}
}

// refer puts n manifests that refer to a subject into the registry.
func (b *bench) refer(n int) (subject digest.Digest, want []ocispec.Descriptor) {
	b.t.Helper()
	subject = b.reg.AddManifest(b.loc.Path, "v1", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	for i := range n {
		m, desc := sbom(b.t, subject, i)
		b.reg.AddManifest(b.loc.Path, "", desc.MediaType, m)
		want = append(want, desc)
	}
	return subject, want
}

// tagReferrers has the tag scheme's tag point to an index of list.
func (b *bench) tagReferrers(subject digest.Digest, list []ocispec.Descriptor) digest.Digest {
	b.t.Helper()
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.reg.AddManifest(b.loc.Path, "sha256-"+subject.Encoded(), ocispec.MediaTypeImageIndex, index)
}

// sameReferrers says whether got are those wanted, in any order, with all that is told of
// them.
func sameReferrers(got, want []ocispec.Descriptor) bool {
	sorted := func(list []ocispec.Descriptor) string {
		list = slices.Clone(list)
		slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
		b, _ := json.Marshal(list)
		return string(b)
	}
	return sorted(got) == sorted(want)
}

func TestReferrers(t *testing.T) {
	for _, perPage := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(perPage), func(t *testing.T) {
			b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth, ReferrersPage: perPage}, nil)
			subject, want := b.refer(5)
			got, err := b.f.Referrers(ctx(t), b.loc, subject)
			if err != nil || !sameReferrers(got, want) {
				t.Errorf("Referrers = %v, %v, want %v", got, err, want)
			}
			if none, err := b.f.Referrers(ctx(t), b.loc, want[0].Digest); err != nil || len(none) > 0 {
				t.Errorf("of what nobody refers to: %v, %v", none, err)
			}
			if n := b.reg.Count("", testregistry.Manifest); n > 0 {
				t.Errorf("%d requests for manifests, of a registry that speaks the API", n)
			}
		})
	}
}

// referrersAre has the registry answer the API with this.
func referrersAre(mediaType, body string, links ...string) testregistry.Fault {
	return testregistry.Fault{
		Kind: testregistry.Referrers, Act: testregistry.Status, Code: http.StatusOK, Body: body,
		Header: http.Header{"Link": links, "Content-Type": {mediaType}},
	}
}

// TestReferrersFallBack: which answers lead to the tag scheme, and which do not.
func TestReferrersFallBack(t *testing.T) {
	status := func(code int) testregistry.Fault {
		return testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.Status, Code: code, Header: http.Header{"Retry-After": {"3600"}}}
	}
	for _, c := range []struct {
		name  string
		fault testregistry.Fault
		err   error // nil: the tag is read
	}{
		{"404", status(404), nil},
		{"400, as Quay says", status(400), nil},
		{"403", status(403), nil},
		{"405", status(405), nil},
		{"410", status(410), nil},
		{"204", status(204), nil},
		{"HTML", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.HTML}, nil},
		{"another type", referrersAre("application/json", `{"manifests":[]}`), nil},
		{"a manifest", referrersAre(ocispec.MediaTypeImageManifest, `{}`), nil},
		{"401", status(401), iofs.ErrPermission},
		{"429", status(429), syscall.EBUSY},
		{"500", status(500), syscall.EIO},
		{"501", status(501), syscall.EIO},
		{"503", status(503), syscall.EIO},
		{"no answer", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.StallHeaders}, os.ErrDeadlineExceeded},
		{"an index that is none", referrersAre(ocispec.MediaTypeImageIndex, `{"manifests":7}`), syscall.EIO},
		{"compressed", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.Gzip}, syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, nil, ended(c.fault, 2*time.Second, fetch.Options{}))
			subject, _ := b.refer(1)
			_, other := sbom(t, subject, 9)
			b.tagReferrers(subject, []ocispec.Descriptor{other})
			b.reg.SetFault(c.fault)
			got, err := b.f.Referrers(ctx(t), b.loc, subject)
			if c.err == nil && (err != nil || !sameReferrers(got, []ocispec.Descriptor{other})) {
				t.Errorf("Referrers = %v, %v, want the tag's", got, err)
			}
			if c.err != nil && (!errors.Is(err, c.err) || b.reg.Count("", testregistry.Manifest) > 0) {
				t.Errorf("Referrers = %v, %v, want %v and no request for the tag", got, err, c.err)
			}
		})
	}
}

// TestReferrersTag: without the API the tag says it, and where there is none,
// there is nothing.
func TestReferrersTag(t *testing.T) {
	b := setup(t, &testregistry.Options{NoReferrers: true}, nil)
	subject, want := b.refer(3)
	if got, err := b.f.Referrers(ctx(t), b.loc, subject); err != nil || got != nil {
		t.Errorf("without the tag: %v, %v", got, err)
	}
	b.tagReferrers(subject, want)
	if got, err := b.f.Referrers(ctx(t), b.loc, subject); err != nil || !sameReferrers(got, want) {
		t.Errorf("Referrers = %v, %v, want %v", got, err, want)
	}
	long := digest.SHA512.FromString("x")
	b.reg.AddManifest(b.loc.Path, "sha512-"+long.Encoded()[:64], ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	if got, err := b.f.Referrers(ctx(t), b.loc, long); err != nil || len(got) > 0 || b.reg.Count(http.MethodGet, testregistry.Manifest) < 2 {
		t.Errorf("of a sha512: %v, %v", got, err)
	}
	b.reg.AddManifest(b.loc.Path, "sha256-"+subject.Encoded(), ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"manifests":[]}`))
	if _, err := b.f.Referrers(ctx(t), b.loc, subject); !errors.Is(err, syscall.EIO) {
		t.Errorf("with a tag that is no index: %v, want EIO", err)
	}
	for _, c := range []struct {
		code int
		err  error
	}{{403, iofs.ErrPermission}, {500, syscall.EIO}} {
		a := b.reg.SetFault(testregistry.Fault{Kind: testregistry.Manifest, Act: testregistry.Status, Code: c.code})
		if _, err := b.f.Referrers(ctx(t), b.loc, subject); !errors.Is(err, c.err) {
			t.Errorf("with %d for the tag: %v, want %v", c.code, err, c.err)
		}
		a.Release()
	}
	dgst := b.tagReferrers(subject, append(want, want[0]))
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Manifest, Method: http.MethodGet, Ref: dgst.String(), Act: testregistry.FlipBit, At: 50})
	if _, err := b.f.Referrers(ctx(t), b.loc, subject); !errors.Is(err, syscall.EIO) {
		t.Errorf("with wrong bytes: %v, want EIO", err)
	}
}

// TestReferrersPages: what ends well and what does not.
func TestReferrersPages(t *testing.T) {
	const index = ocispec.MediaTypeImageIndex
	entry := func(i int) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, ocispec.MediaTypeImageManifest, digest.FromString(fmt.Sprint(i)))
	}
	many := func(n int) string {
		var s []string
		for i := range n {
			s = append(s, entry(i))
		}
		return `{"manifests":[` + strings.Join(s, ",") + `]}`
	}
	for _, c := range []struct {
		name  string
		fault testregistry.Fault
		n     int
		err   error
	}{
		{"none", referrersAre(index, `{"manifests":[]}`), 0, nil},
		{"null", referrersAre(index, `{"manifests":null}`), 0, nil},
		{"the same twice", referrersAre(index, `{"manifests":[`+entry(1)+`,`+entry(1)+`]}`), 1, nil},
		{"some make no sense", referrersAre(index, `{"manifests":[7,{},null,[],{"digest":"sha256:xyz"},{"mediaType":"a b","digest":"`+digest.FromString("").String()+`"},`+
			`{"mediaType":"a/b","size":-1,"digest":"`+digest.FromString("").String()+`"},{"mediaType":"a/b","size":99999999999,"digest":"`+digest.FromString("").String()+`"},`+entry(1)+`]}`), 1, nil},
		{"cut once", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.Cut, At: 20, Times: 1}, 2, nil},
		{"a 503 once", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.Status, Code: 503, Times: 1}, 2, nil},
		{"the second page 404", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.Status, Code: 404, Skip: 1}, 0, iofs.ErrNotExist},
		{"another origin", referrersAre(index, many(1), `<http://example.com/v2/library/redis/referrers/x>; rel="next"`), 0, syscall.EIO},
		{"another path", referrersAre(index, many(1), `</v2/secret/referrers/x>; rel="next"`), 0, syscall.EIO},
		{"round and round", referrersAre(index, many(1), `<?last=x>; rel="next"`), 0, syscall.EIO},
		{"too many", referrersAre(index, many(10_001)), 0, syscall.EIO},
		{"as many as may be", referrersAre(index, many(10_000)), 10_000, nil},
		{"too large", referrersAre(index, `{"manifests":[`+strings.Repeat(" ", 4<<20)+`]}`), 0, syscall.EIO},
		{"one is too large", referrersAre(index, `{"manifests":[{"annotations":{"a":"`+strings.Repeat("x", 100_000)+`"}}]}`), 0, syscall.EIO},
		{"endless", testregistry.Fault{Kind: testregistry.Referrers, Act: testregistry.StallBody, At: 20}, 0, os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &testregistry.Options{ReferrersPage: 1}, ended(c.fault, 2*time.Second, fetch.Options{}))
			subject, _ := b.refer(2)
			b.reg.SetFault(c.fault)
			got, err := b.f.Referrers(ctx(t), b.loc, subject)
			if !errors.Is(err, c.err) || len(got) != c.n {
				t.Errorf("Referrers: %d, %v, want %d, %v", len(got), err, c.n, c.err)
			}
		})
	}
}

// TestReferrersOfMirrors: a mirror without the API makes way for the host.
func TestReferrersOfMirrors(t *testing.T) {
	b, mirrors := mirrored(t, nil, &testregistry.Options{NoReferrers: true})
	subject, want := b.refer(2)
	if got, err := b.f.Referrers(ctx(t), b.loc, subject); err != nil || !sameReferrers(got, want) {
		t.Errorf("Referrers = %v, %v, want the host's", got, err)
	}
	if mirrors[0].Count("", testregistry.Referrers) == 0 {
		t.Error("the mirror was not asked")
	}
}

func TestReferrersOffline(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Offline: true})
	if _, err := b.f.Referrers(ctx(t), b.loc, digest.FromString("x")); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("Referrers = %v, want ENETUNREACH", err)
	}
}

// TestReferrersOfLayouts: by the subjects of what index.json names, else by the
// tag scheme.
func TestReferrersOfLayouts(t *testing.T) {
	dir := t.TempDir()
	subject := digest.FromString("subject")
	m, want := sbom(t, subject, 1)
	layout(t, dir+"/team/app", "", m)
	_, other := sbom(t, subject, 2)
	index, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{other}})
	if err != nil {
		t.Fatal(err)
	}
	layout(t, dir+"/team/tagged", "sha256-"+subject.Encoded(), index)
	file := filepath.Join(dir, "team/tagged/index.json")
	b, err := os.ReadFile(file)
	if err == nil {
		b = []byte(strings.ReplaceAll(string(b), ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex))
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := content.Open(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := fetch.New(store, locator.Hosts{"local": {Layouts: dir}}, nil)
	defer f.Close()
	for path, want := range map[string][]ocispec.Descriptor{"team/app": {want}, "team/tagged": {other}, "no/such": nil} {
		got, err := f.Referrers(ctx(t), locator.Locator{Host: "local", Path: path}, subject)
		if err != nil || !sameReferrers(got, want) {
			t.Errorf("Referrers in %s = %v, %v, want %v", path, got, err, want)
		}
	}
	if got, err := f.Referrers(ctx(t), locator.Locator{Host: "local", Path: "team/app"}, digest.FromString("another")); err != nil || len(got) > 0 {
		t.Errorf("of another: %v, %v", got, err)
	}
}

// FuzzReadReferrers: what is taken of a list can be asked for, and is there once.
func FuzzReadReferrers(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"annotations":{"a":"b"}}]}`))
	f.Add([]byte(`{"manifests":[7,null,{"digest":7}],"manifests":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := fetch.ReadReferrers(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		seen := map[digest.Digest]bool{}
		for _, desc := range list {
			if desc.Digest.Validate() != nil || desc.Size < 0 || desc.MediaType == "" || strings.ContainsAny(desc.MediaType+desc.ArtifactType, " \r\n\x00") || seen[desc.Digest] || desc.Data != nil || desc.URLs != nil {
				t.Errorf("took %+v of %q", desc, b)
			}
			seen[desc.Digest] = true
		}
	})
}
