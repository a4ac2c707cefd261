package fetch_test

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// chunk is how much these tests send at a time.
const chunk = 256 << 10

func (b *bench) pusher(tag string) *fetch.Pusher {
	b.t.Helper()
	p, err := b.f.Pusher(locator.Reference{Locator: b.loc, Tag: tag})
	if err != nil {
		b.t.Fatal(err)
	}
	p.SetChunk(chunk)
	return p
}

// upload sends p as a blob and returns how that ended.
func (b *bench) upload(p []byte) (desc ocispec.Descriptor, mounted bool, err error) {
	b.t.Helper()
	desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(p), Size: int64(len(p))}
	mounted, err = b.pusher("").Upload(ctx(b.t), desc, bytes.NewReader(p), func(int64) {})
	return desc, mounted, err
}

// got is how many bytes of uploads the registry took.
func (b *bench) got() (n int64) {
	for _, q := range b.reg.Requests() {
		n += q.Got
	}
	return n
}

func (b *bench) count(method string) int { return b.reg.Count(method, testregistry.Upload) }

// TestMount takes a blob over from a repository that the store has on record.
func TestMount(t *testing.T) {
	for _, c := range []struct {
		name    string
		opts    testregistry.Options
		fault   testregistry.Fault
		mounted bool
		posts   int
	}{
		{"accepted", testregistry.Options{}, testregistry.Fault{}, true, 1},
		{"accepted with tokens", testregistry.Options{Auth: testregistry.BearerAuth}, testregistry.Fault{}, true, 1},
		{"accepted the second time", testregistry.Options{}, testregistry.Fault{Act: testregistry.Refuse, Code: 503, Times: 1}, true, 2},
		{"becomes an upload", testregistry.Options{NoMount: true}, testregistry.Fault{}, false, 1},
		{"refused", testregistry.Options{}, testregistry.Fault{Act: testregistry.Refuse, Code: 403, Times: 1}, false, 2},
		{"unknown", testregistry.Options{}, testregistry.Fault{Act: testregistry.Refuse, Code: 405, Times: 1}, false, 2},
		{"no token for both", testregistry.Options{Auth: testregistry.BearerAuth}, testregistry.Fault{
			Kind: testregistry.Token, Method: "GET", Act: testregistry.Status, Code: 403,
			Match: func(q *testregistry.Request) bool { return strings.Contains(q.Query, "team%2Fa%2Fbase") },
		}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &c.opts, nil)
			p := random(1000, 1)
			dgst := b.reg.AddBlob("team/a/base", p)
			other := locator.Locator{Host: b.loc.Host, Path: "team/a/base"}
			if _, err := b.f.Stat(ctx(t), other, ocispec.Descriptor{Digest: dgst}); err != nil {
				t.Fatal(err)
			}
			b.reg.Forget()
			if c.fault.Act != 0 && c.fault.Kind == "" {
				c.fault.Kind, c.fault.Method = testregistry.Upload, "POST"
			}
			if c.fault.Kind != "" {
				b.reg.SetFault(c.fault)
			}
			_, mounted, err := b.upload(p)
			if err != nil || mounted != c.mounted {
				t.Errorf("Upload = %v, %v, want %v", mounted, err, c.mounted)
			}
			want := int64(len(p))
			if c.mounted {
				want = 0
			}
			if b.got() != want || !bytes.Equal(b.reg.Bytes(b.loc.Path, dgst.String()), p) {
				t.Errorf("%d bytes were sent, want %d", b.got(), want)
			}
			posts := 0
			for _, q := range b.reg.Requests() {
				if q.Method == "POST" && q.Kind == testregistry.Upload && q.Status != http.StatusUnauthorized {
					posts++
				}
			}
			if posts != c.posts {
				t.Errorf("%d sessions were asked for, want %d", posts, c.posts)
			}
		})
	}
}

// TestPushTokens asks for what it needs and no more: one token for all that goes
// to a repository.
func TestPushTokens(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	p := b.pusher("7")
	blob := random(2*chunk, 1)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	if has, err := p.Has(ctx(t), desc); err != nil || has {
		t.Fatalf("Has = %v, %v", has, err)
	}
	if _, err := p.Upload(ctx(t), desc, bytes.NewReader(blob), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, q := range b.reg.Requests() {
		if q.Kind == testregistry.Token {
			asked = append(asked, q.Query)
		}
	}
	if len(asked) != 1 || !strings.Contains(asked[0], "pull%2Cpush") {
		t.Errorf("tokens: %q, want one for pull,push", asked)
	}
}

// TestPushWithPassword pushes a blob, a manifest and a tag over TLS to who wants to
// know from whom.
func TestPushWithPassword(t *testing.T) {
	for name, way := range map[string]testregistry.Auth{"basic": testregistry.BasicAuth, "bearer": testregistry.BearerAuth} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, &testregistry.Options{TLS: true, Auth: way, User: "user", Password: "secret-word"}, nil)
			b.shut()
			config := b.dir + "/config.json"
			login(t, config, map[string]string{b.reg.Host(): "user:secret-word"})
			b.open(&fetch.Options{DockerConfig: config, RootCAs: b.reg.CertPool()})
			p := b.pusher("1")
			empty := []byte("{}")
			blob := random(3*chunk, 1)
			for _, one := range [][]byte{empty, blob} {
				desc := ocispec.Descriptor{Digest: digest.FromBytes(one), Size: int64(len(one))}
				if _, err := p.Upload(ctx(t), desc, bytes.NewReader(one), func(int64) {}); err != nil {
					t.Fatal(err)
				}
			}
			b.reg.ExpireTokens()
			m := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q}]}`, digest.FromBytes(empty), digest.FromBytes(blob))
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(m), Size: int64(len(m))}
			if err := p.PutManifest(ctx(t), desc, m); err != nil {
				t.Fatal(err)
			}
			b.reg.ExpireTokens()
			if _, err := p.Name(ctx(t), desc, m); err != nil || !bytes.Equal(b.reg.Bytes(b.loc.Path, "1"), m) {
				t.Errorf("Name: %v", err)
			}
			b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Act: testregistry.Status, Code: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="x"`}}})
			if _, _, err := b.upload(random(5, 5)); !errors.Is(err, iofs.ErrPermission) || strings.Contains(err.Error(), "secret-word") {
				t.Errorf("Upload that is refused = %v", err)
			}
		})
	}
}

// TestPushTokenRedirected follows the redirects of a token server, as for reading.
func TestPushTokenRedirected(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	fault := b.reg.SetFault(testregistry.Fault{Kind: testregistry.Token, Act: testregistry.RedirectTo, To: "http://" + b.reg.TokenHost(), Times: 1})
	if _, _, err := b.upload(random(10, 1)); err != nil || fault.Hits() != 1 {
		t.Errorf("Upload = %v", err)
	}
	b.reg.ExpireTokens() // and in a session, too
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Token, Act: testregistry.RedirectTo, To: "http://" + b.reg.TokenHost(), Times: 1})
	if _, _, err := b.upload(random(10, 2)); err != nil {
		t.Errorf("Upload = %v", err)
	}
}

// TestPutManifest puts manifests by digest and by tag, and checks what the
// registry makes of it.
func TestPutManifest(t *testing.T) {
	m := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(m), Size: int64(len(m))}
	b := setup(t, nil, nil)
	p := b.pusher("7")
	if has, err := p.Has(ctx(t), desc); err != nil || has {
		t.Fatalf("Has = %v, %v", has, err)
	}
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Manifest, Method: "PUT", Act: testregistry.Cut, Times: 1})
	if err := p.PutManifest(ctx(t), desc, m); err != nil {
		t.Fatal(err)
	}
	if has, err := p.Has(ctx(t), desc); err != nil || !has {
		t.Errorf("Has = %v, %v", has, err)
	}
	for _, want := range []bool{false, true} {
		if already, err := p.Name(ctx(t), desc, m); err != nil || already != want {
			t.Errorf("Name = %v, %v, want %v", already, err, want)
		}
	}
	if got, _, err := b.store.Tag(b.loc.String(), "7"); err != nil || got.Digest != desc.Digest {
		t.Errorf("the tag on record is %v, %v", got, err)
	}
	if !bytes.Equal(b.reg.Bytes(b.loc.Path, "7"), m) {
		t.Error("the tag names something else")
	}
	for _, c := range []struct {
		fault testregistry.Fault
		kind  error
	}{
		{testregistry.Fault{Act: testregistry.Headers, Header: http.Header{"Docker-Content-Digest": {digest.FromString("x").String()}}}, syscall.EIO},
		{testregistry.Fault{Act: testregistry.Refuse, Code: 400, Body: `{"errors":[{"code":"MANIFEST_INVALID"}]}`}, syscall.EIO},
		{testregistry.Fault{Act: testregistry.Refuse, Code: 403}, iofs.ErrPermission},
		{testregistry.Fault{Act: testregistry.RedirectTo, To: "https://example.com"}, syscall.EIO},
	} {
		c.fault.Kind, c.fault.Method = testregistry.Manifest, "PUT"
		active := b.reg.SetFault(c.fault)
		if err := p.PutManifest(ctx(t), desc, m); !errors.Is(err, c.kind) {
			t.Errorf("PutManifest = %v, want %v", err, c.kind)
		}
		active.Release()
	}
	named := []byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q}}`, digest.FromString("absent")))
	desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(named), Size: int64(len(named))}
	if err := p.PutManifest(ctx(t), desc, named); err == nil || !strings.Contains(err.Error(), "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("PutManifest of what names an absent blob = %v", err)
	}
}

// TestHasOtherSize is no answer that one could rely on.
func TestHasOtherSize(t *testing.T) {
	b := setup(t, nil, nil)
	desc, _ := b.blob(100)
	desc.Size = 99
	if has, err := b.pusher("").Has(ctx(t), desc); !errors.Is(err, syscall.EIO) || has {
		t.Errorf("Has = %v, %v, want EIO", has, err)
	}
}

// TestPusherOfLayouts is refused: it is no registry.
func TestPusherOfLayouts(t *testing.T) {
	b := setup(t, nil, nil)
	b.f.Close()
	b.store.Close()
	b.hosts = locator.Hosts{"lab": {Layouts: t.TempDir()}}
	b.open(nil)
	if _, err := b.f.Pusher(locator.Reference{Locator: locator.Locator{Host: "lab", Path: "a"}, Tag: "1"}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Pusher = %v, want EROFS", err)
	}
}
