package fetch_test

import (
	"errors"
	iofs "io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mirrored starts a registry with as many mirrors as there are options, and a
// fetcher that asks them first.
func mirrored(t *testing.T, fopts *fetch.Options, mopts ...*testregistry.Options) (*bench, []*testregistry.Registry) {
	t.Helper()
	b := setup(t, nil, fopts)
	b.shut()
	var list []*testregistry.Registry
	var names []string
	for _, o := range mopts {
		m := testregistry.Start(t, o)
		list = append(list, m)
		names = append(names, m.URL())
	}
	b.hosts = locator.Hosts{b.loc.Host: {Mirrors: names}}
	b.open(fopts)
	return b, list
}

// everywhere puts n bytes into the registry and into its mirrors.
func (b *bench) everywhere(n int, mirrors ...*testregistry.Registry) (ocispec.Descriptor, []byte) {
	b.t.Helper()
	desc, want := b.blob(n)
	for _, m := range mirrors {
		m.AddBlob(b.loc.Path, want)
	}
	return desc, want
}

// TestMirrorThatFails: whatever a mirror does, the host itself serves in the
// end, and what comes next does not wait for the mirror again.
func TestMirrorThatFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault testregistry.Fault
		again bool // another object is asked for at the mirror at once
		kept  int64
	}{
		{"404", testregistry.Fault{Act: testregistry.Status, Code: 404}, true, 0},
		{"401", testregistry.Fault{Act: testregistry.Status, Code: 401}, true, 0},
		{"500", testregistry.Fault{Act: testregistry.Status, Code: 500}, true, 0},
		{"503", testregistry.Fault{Act: testregistry.Status, Code: 503}, false, 0},
		{"429 for an hour", testregistry.Fault{Act: testregistry.Status, Code: 429, Header: http.Header{"Retry-After": {"3600"}}}, false, 0},
		{"a page of HTML", testregistry.Fault{Act: testregistry.HTML}, true, 0},
		{"compressed", testregistry.Fault{Act: testregistry.Gzip}, true, 0},
		{"stalled head", testregistry.Fault{Act: testregistry.StallHeaders}, false, 0},
		{"stalled body", testregistry.Fault{Act: testregistry.StallBody, At: mib + 1000}, false, mib},
		{"cut body", testregistry.Fault{Act: testregistry.Cut, At: 2*mib + 1000}, false, 0},
		{"short body", testregistry.Fault{Act: testregistry.Short, At: mib + 1000}, false, mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, list := mirrored(t, ended(c.fault, 9*time.Second, fetch.Options{}), nil)
			mirror := list[0]
			desc, want := b.everywhere(5*mib, mirror)
			next, wantNext := b.everywhere(3*mib, mirror)
			fault := c.fault
			fault.Method, fault.Kind = http.MethodGet, testregistry.Blob
			a := mirror.SetFault(fault)
			o := b.object(desc)
			if err := o.Verify(ctx(t)); err != nil {
				t.Fatalf("Verify = %v\n%s", err, b.log)
			}
			check(t, o, want, 0, desc.Size)
			if a.Hits() == 0 {
				t.Error("the mirror was not asked")
			}
			if got := b.reg.Sent(desc.Digest); got > desc.Size-c.kept || got == 0 {
				t.Errorf("the host itself sent %d bytes, of %d the mirror had sent %d", got, desc.Size, c.kept)
			}
			hits := a.Hits()
			check(t, b.object(next), wantNext, 0, next.Size)
			if asked := a.Hits() > hits; asked != c.again {
				t.Errorf("the mirror was asked for another object: %t, want %t", asked, c.again)
			}
		})
	}
}

// TestMirrorThatIsGone or refuses a HEAD does not keep a size from being told.
func TestMirrorThatIsGone(t *testing.T) {
	t.Parallel()
	b, list := mirrored(t, &fetch.Options{Timeout: 10 * time.Second}, nil, nil, nil)
	desc, want := b.everywhere(300_000, list...)
	list[0].Stop()
	list[1].Remove(b.loc.Path, desc.Digest.String())
	list[2].SetFault(testregistry.Fault{Act: testregistry.StallHeaders})
	for _, what := range []ocispec.Descriptor{desc, {Digest: desc.Digest}} {
		o := b.object(what)
		check(t, o, want, 0, desc.Size)
		o.Close()
	}
	m := []byte(`{"schemaVersion":2}`)
	dgst := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)
	ref := locator.Reference{Locator: b.loc, Tag: "7"}
	if got, err := b.f.Resolve(ctx(t), ref); err != nil || got.Digest != dgst {
		t.Errorf("Resolve(%s) = %v, %v, want %s", ref, got.Digest, err, dgst)
	}
}

// TestStalledTagAtMirror: a tag is asked for at the next source, too.
func TestStalledTagAtMirror(t *testing.T) {
	t.Parallel()
	b, list := mirrored(t, &fetch.Options{Timeout: 9 * time.Second}, nil)
	dgst := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	a := list[0].SetFault(testregistry.Fault{Kind: testregistry.Manifest, Act: testregistry.StallHeaders})
	for range 2 {
		if got, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"}); err != nil || got.Digest != dgst {
			t.Fatalf("Resolve = %v, %v, want %s", got.Digest, err, dgst)
		}
	}
	if a.Hits() != 1 {
		t.Errorf("the stalled mirror was asked %d times for a tag that was resolved twice, want once", a.Hits())
	}
}

// TestMirrorServes: the host itself is not asked for what its mirror has, only
// the mirror is told whose content is asked for, and the bytes are the host's
// own.
func TestMirrorServes(t *testing.T) {
	b, list := mirrored(t, nil, nil)
	desc, want := b.everywhere(3*mib, list...)
	o := b.object(ocispec.Descriptor{Digest: desc.Digest})
	if err := o.Commit(ctx(t)); err != nil {
		t.Fatal(err)
	}
	check(t, o, want, 0, desc.Size)
	if got := b.reg.Count("", ""); got != 0 {
		t.Errorf("%d requests to the host itself", got)
	}
	if _, ok := b.f.Known(b.loc, desc.Digest); !ok {
		t.Error("not on record under the host's name")
	}
	only, wantOnly := b.blob(100)
	check(t, b.object(only), wantOnly, 0, 100)
	for _, r := range list[0].Requests() {
		if want := "ns=" + url.QueryEscape(b.loc.Host); r.Query != want {
			t.Errorf("%s of the mirror with the query %q, want %q", r.Method, r.Query, want)
		}
	}
	for _, r := range b.reg.Requests() {
		if r.Query != "" {
			t.Errorf("%s of the host itself with the query %q", r.Method, r.Query)
		}
	}
}

// TestWhichErrorCounts of several sources'.
func TestWhichErrorCounts(t *testing.T) {
	gone := func(r *testregistry.Registry) { r.Stop() }
	status := func(code int) func(*testregistry.Registry) {
		return func(r *testregistry.Registry) { r.SetFault(testregistry.Fault{Act: testregistry.Status, Code: code}) }
	}
	for _, c := range []struct {
		name             string
		mirror, upstream func(*testregistry.Registry)
		want             error
	}{
		{"lacked by all", status(404), status(404), iofs.ErrNotExist},
		{"the host itself lacks it", gone, status(404), iofs.ErrNotExist},
		{"the host itself lacks it, the mirror forbids", status(403), status(404), iofs.ErrNotExist},
		{"the host itself is gone", status(404), gone, syscall.EHOSTUNREACH},
		{"the host itself forbids", status(404), status(403), iofs.ErrPermission},
	} {
		b, list := mirrored(t, nil, nil)
		desc, _ := b.everywhere(100, list...)
		c.mirror(list[0])
		c.upstream(b.reg)
		_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
		if !errors.Is(err, c.want) || errors.Is(err, iofs.ErrNotExist) != errors.Is(c.want, iofs.ErrNotExist) {
			t.Errorf("%s: Stat = %v, want %v", c.name, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), list[0].Host()) {
			t.Errorf("%s: Stat = %v, which does not tell of the mirror", c.name, err)
		}
	}
}

// TestAllLied: nobody is left, so all are asked again.
func TestAllLied(t *testing.T) {
	b, list := mirrored(t, nil, nil)
	mirror := list[0]
	desc, want := b.everywhere(300_000, mirror)
	flip := testregistry.Fault{Act: testregistry.FlipBit, At: 1000}
	mirror.SetFault(flip)
	b.reg.SetFault(flip)
	o := b.object(desc)
	if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Verify = %v, want EIO", err)
	}
	o.Close()
	mirror.ClearFaults()
	b.reg.ClearFaults()
	b.reg.Forget()
	heal(t, b, desc, want)
	if b.reg.Sent(desc.Digest) > 0 {
		t.Error("the mirror was not asked again")
	}
}

// TestSeveralMayHaveLied: of two who sent parts the host itself is not blamed.
func TestSeveralMayHaveLied(t *testing.T) {
	b, list := mirrored(t, nil, nil)
	mirror := list[0]
	desc, want := b.everywhere(3*mib, mirror)
	mirror.SetFault(testregistry.Fault{Act: testregistry.FlipBit, At: 1000})
	mirror.SetFault(testregistry.Fault{Act: testregistry.Cut, At: mib + 1000})
	o := b.object(desc)
	if err := o.Verify(ctx(t)); err != nil {
		t.Fatalf("Verify = %v", err)
	}
	check(t, o, want, 0, desc.Size)
	if b.reg.Sent(desc.Digest) <= desc.Size {
		t.Fatal("the host itself did not send a part first, and then all")
	}
	if n := mirror.Count(http.MethodGet, ""); n != 1 {
		t.Errorf("%d requests to who lied", n)
	}
}

// TestOneSourceHasNoOther: it is asked once.
func TestOneSourceHasNoOther(t *testing.T) {
	b := setup(t, nil, nil)
	desc, _ := b.blob(100)
	a := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Act: testregistry.FlipBit, At: 10})
	o := b.object(desc)
	if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) || a.Hits() != 1 {
		t.Errorf("Verify = %v after %d requests, want EIO after one", err, a.Hits())
	}
}

// TestEachSourceItsOwnCredentials: who asks the mirror does not tell it the
// host's password.
func TestEachSourceItsOwnCredentials(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "upstream"}, nil)
	b.shut()
	mirror := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "mirror"})
	b.hosts = locator.Hosts{b.loc.Host: {Mirrors: []string{mirror.Host()}}}
	config := filepath.Join(b.dir, "config.json")
	login(t, config, map[string]string{b.reg.Host(): "u:upstream", mirror.Host(): "u:mirror"})
	b.open(&fetch.Options{DockerConfig: config})
	desc, want := b.everywhere(100, mirror)
	check(t, b.object(desc), want, 0, 100)
	if b.reg.Count("", "") != 0 {
		t.Error("the mirror's password did not do")
	}
	only, wantOnly := b.blob(200)
	check(t, b.object(only), wantOnly, 0, 200)
	for _, at := range []struct {
		reg  *testregistry.Registry
		want string
	}{{mirror, "Basic dTptaXJyb3I="}, {b.reg, "Basic dTp1cHN0cmVhbQ=="}} {
		for _, r := range at.reg.Requests() {
			if got := r.Header.Get("Authorization"); got != "" && got != at.want {
				t.Errorf("%s was sent %q", at.reg.Host(), got)
			}
		}
	}
}

// TestLayoutsAsMirror: a directory can stand before a registry.
func TestLayoutsAsMirror(t *testing.T) {
	b := setup(t, nil, nil)
	b.shut()
	b.hosts = locator.Hosts{b.loc.Host: {Mirrors: []string{"dir"}}, "dir": {Layouts: b.dir + "/layouts"}}
	b.open(nil)
	p := random(1000, 1)
	dgst := digest.FromBytes(p)
	dir := filepath.Join(b.dir, "layouts", b.loc.Path, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dgst.Encoded()), p, 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, b.object(ocispec.Descriptor{Digest: dgst}), p, 0, 1000)
	if b.reg.Count("", "") != 0 {
		t.Error("the registry was asked for what the directory has")
	}
	desc, want := b.blob(500)
	check(t, b.object(desc), want, 0, 500)
}
