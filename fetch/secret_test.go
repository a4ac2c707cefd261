package fetch_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// forms are how the password of u may show.
func forms(password string) []string {
	return []string{password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte("u:" + password))}
}

func contains(s string, forms []string) bool {
	for _, f := range forms {
		if strings.Contains(s, f) {
			return true
		}
	}
	return false
}

// received is all that a registry, its token server and its CDN were sent.
func received(reg *testregistry.Registry, kinds ...testregistry.Kind) string {
	var s strings.Builder
	for _, r := range reg.Requests() {
		for _, k := range kinds {
			if r.Kind == k {
				fmt.Fprintf(&s, "%s %s %s %s %s %v %s\n", r.Method, r.Kind, r.Repo, r.Ref, r.Query, r.Header, r.Body)
			}
		}
	}
	return s.String()
}

var everywhere = []testregistry.Kind{testregistry.Ping, testregistry.Blob, testregistry.Manifest, testregistry.Token, testregistry.CDN, testregistry.Other}

// TestSecretsStay: two hosts with a password each. Whatever the hostile one
// does, the other's password does not reach it nor its own the places that it
// redirects to, and neither shows in an error or in the log.
func TestSecretsStay(t *testing.T) {
	const mine, others = "p4ss+Of/Hostile", "p4ss+Of/Honest"
	honest := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: others})
	secrets := append(forms(mine), forms(others)...)
	quote := fmt.Sprintf(`{"errors":[{"code":"DENIED","message":%q,"detail":%q}]}`, mine, forms(mine)[2])
	cases := []struct {
		name   string
		opts   testregistry.Options
		faults []testregistry.Fault
	}{
		{"basic", testregistry.Options{Auth: testregistry.BasicAuth}, nil},
		{"bearer", testregistry.Options{Auth: testregistry.BearerAuth}, nil},
		{"to its CDN", testregistry.Options{Auth: testregistry.BearerAuth, Redirect: true, SignatureUses: 1}, nil},
		{"to its CDN, basic", testregistry.Options{Auth: testregistry.BasicAuth, Redirect: true, SignatureUses: 1}, nil},
		{"the other's registry as realm", testregistry.Options{Auth: testregistry.BearerAuth, Realm: honest.URL() + "/v2/token"}, nil},
		{"the other's token server as realm", testregistry.Options{Auth: testregistry.BearerAuth, Realm: "http://" + honest.TokenHost() + "/token"}, nil},
		{"redirects to the other", testregistry.Options{Auth: testregistry.BearerAuth}, []testregistry.Fault{
			{Kind: testregistry.Blob, Act: testregistry.RedirectTo, To: honest.URL(), Skip: 2},
		}},
		{"its token server redirects to the other", testregistry.Options{Auth: testregistry.BearerAuth}, []testregistry.Fault{
			{Kind: testregistry.Token, Act: testregistry.RedirectTo, To: honest.URL()},
		}},
		{"its CDN redirects to the other", testregistry.Options{Auth: testregistry.BasicAuth, Redirect: true}, []testregistry.Fault{
			{Kind: testregistry.CDN, Act: testregistry.RedirectTo, To: honest.URL()},
		}},
		{"its CDN wants a password", testregistry.Options{Auth: testregistry.BasicAuth, Redirect: true}, []testregistry.Fault{
			{Kind: testregistry.CDN, Act: testregistry.Status, Code: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="x"`}}},
		}},
		{"it quotes the password", testregistry.Options{Auth: testregistry.BasicAuth}, []testregistry.Fault{
			{Act: testregistry.Status, Code: 400, Body: quote},
		}},
		{"its token server quotes the password", testregistry.Options{Auth: testregistry.BearerAuth}, []testregistry.Fault{
			{Kind: testregistry.Token, Act: testregistry.Status, Code: 400, Body: quote},
		}},
		{"its token server fails", testregistry.Options{Auth: testregistry.BearerAuth}, []testregistry.Fault{
			{Kind: testregistry.Token, Act: testregistry.Cut},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			honest.Forget()
			c.opts.User, c.opts.Password = "u", mine
			b := setup(t, &c.opts, nil)
			b.shut()
			config := filepath.Join(b.dir, "config.json")
			login(t, config, map[string]string{b.reg.Host(): "u:" + mine, honest.Host(): "u:" + others})
			b.open(&fetch.Options{DockerConfig: config, FillBelow: -1})
			for _, f := range c.faults {
				b.reg.SetFault(f)
			}
			said := useAll(t, b)
			honestLoc := locator.Locator{Host: honest.Host(), Path: "a/b"}
			if _, err := b.f.Stat(ctx(t), honestLoc, ocispec.Descriptor{Digest: honest.AddBlob("a/b", []byte("x"))}); err != nil {
				t.Errorf("Stat of the honest host: %v", err)
			}
			if contains(received(b.reg, everywhere...), forms(others)) {
				t.Error("the hostile host was sent the other's password")
			}
			if s := received(b.reg, testregistry.CDN); strings.Contains(s, "Authorization") || contains(s, secrets) {
				t.Errorf("the CDN was sent credentials:\n%s", s)
			}
			if s := received(b.reg, testregistry.Blob, testregistry.Manifest); c.opts.Auth == testregistry.BearerAuth && contains(s, secrets) {
				t.Errorf("the password went to the registry and not to its token server:\n%s", s)
			}
			for _, r := range honest.Requests() { // its own password goes to its own objects; as a realm it gets the hostile one's
				if r.Repo != "a/b" && contains(fmt.Sprint(r), forms(others)) {
					t.Errorf("%s %s bears the honest host's password, for another host", r.Method, r.Repo)
				}
				if r.Repo == b.loc.Path && r.Header.Get("Authorization") != "" {
					t.Errorf("a redirect's target was sent %v", r.Header)
				}
			}
			for _, s := range []string{said, b.log.String()} {
				if contains(s, secrets) || strings.Contains(s, "token-1") || strings.Contains(s, "signature=") {
					t.Errorf("a secret shows:\n%s", s)
				}
			}
		})
	}
}

// useAll asks for all kinds of things and returns what the errors said.
func useAll(t *testing.T, b *bench) string {
	t.Helper()
	var said strings.Builder
	note := func(err error) {
		if err != nil {
			fmt.Fprintf(&said, "%v\n%+v\n", err, err)
		}
	}
	m := b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	desc, _ := b.blob(3 * mib)
	_, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
	note(err)
	_, err = b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
	note(err)
	for _, d := range []ocispec.Descriptor{desc, {Digest: m, Size: 19, MediaType: ocispec.MediaTypeImageManifest}} {
		o, err := b.f.Open(ctx(t), b.loc, d)
		note(err)
		if err != nil {
			continue
		}
		_, err = o.ReadAt(ctx(t), make([]byte, 10), 0)
		note(err)
		_, err = o.ReadAt(ctx(t), make([]byte, 10), d.Size-10)
		note(err)
		note(o.Verify(ctx(t)))
		o.Close()
	}
	return said.String()
}

// TestNothingOfAFileOrHelperShows: what is wrong with them is said without
// quoting them.
func TestNothingOfAFileOrHelperShows(t *testing.T) {
	const secret = "hunter2hunter2"
	helper(t, "loud", "echo "+secret+"; echo "+secret+" >&2; exit 3\n")
	helper(t, "garbled", "echo '{\"Username\":\"u\",\"Secret\":"+secret+"}'\n")
	for _, file := range []string{
		`{"auths":{"HOST":{"auth":"` + secret + `"}}}`,
		`{"auths":{"HOST":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(secret)) + `"}}}`,
		`{"auths":{"HOST":{"username":"u","password":{"` + secret + `":1}}}}`,
		`{"auths":{"HOST":{"username":"u","password":"` + secret + `"}},}`,
		`{"credsStore":"loud"}`,
		`{"credsStore":"garbled"}`,
		`{"credsStore":"missing"}`,
		`{"credsStore":"../loud"}`,
	} {
		b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: secret}, nil)
		b.configure(strings.ReplaceAll(file, "HOST", b.reg.Host()), fetch.Options{})
		said := useAll(t, b)
		if !strings.Contains(said, "credentials") || contains(said+b.log.String(), append(forms(secret), base64.StdEncoding.EncodeToString([]byte(secret)))) {
			t.Errorf("%s: not said what is wrong, or too much:\n%s%s", file, said, b.log)
		}
		desc, _ := b.blob(5)
		if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: Stat = %v, want ErrPermission", file, err)
		}
	}
}

// A phoneBook is a dialer that knows two names and notes what else it is asked
// for.
type phoneBook struct {
	known map[string]string

	mu      sync.Mutex
	unknown []string
}

func (d *phoneBook) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if to, ok := d.known[addr]; ok {
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unknown = append(d.unknown, addr)
	return nil, fmt.Errorf("dialed %s", addr)
}

// public sets up a registry and a CDN under names of the internet's.
func public(t *testing.T) (*bench, *testregistry.Registry, *phoneBook) {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	b.reg = testregistry.Start(t, &testregistry.Options{TLS: true, Names: []string{"registry.example"}})
	cdn := testregistry.Start(t, &testregistry.Options{TLS: true, Names: []string{"cdn.example"}})
	pool := x509.NewCertPool()
	for _, r := range []*testregistry.Registry{b.reg, cdn} {
		pem, err := os.ReadFile(r.CAFile(t))
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			t.Fatalf("CA: %v", err)
		}
	}
	book := &phoneBook{known: map[string]string{"registry.example:443": b.reg.Host(), "cdn.example:443": cdn.Host()}}
	b.loc = locator.Locator{Host: "registry.example", Path: "team/app"}
	store, err := content.Open(b.dir + "/store")
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	b.f = fetch.New(store, nil, &fetch.Options{Dial: book.dial, RootCAs: pool, FillBelow: -1, DockerConfig: b.dir + "/none.json"})
	t.Cleanup(b.shut)
	return b, cdn, book
}

// refusedTargets are no business of a registry on the internet.
var refusedTargets = []string{
	"http://cdn.example", // out of HTTPS
	"ftp://cdn.example",
	"https://127.0.0.1:8443",
	"https://localhost",
	"https://[::1]:2375",
	"https://0.0.0.0",
	"https://169.254.169.254",
	"https://[fe80::1%25eth0]",
	"https://[::ffff:169.254.169.254]",
	"https://[64:ff9b::a9fe:a9fe]",
	"https://100.100.100.200",
	"https://168.63.129.16",
	"https://[fd00:ec2::254]",
	"https://LOCALHOST:8500",
	"https://localhost.",
	"https://x.localhost",
	"https://127.1",
	"https://2130706433",
	"https://0x7f.1",
	"https://metadata.google.internal",
}

// TestRefusedTargets: not one of them is dialed, whether the registry names it
// or the CDN that was remembered for the object's further ranges.
func TestRefusedTargets(t *testing.T) {
	for _, target := range refusedTargets {
		t.Run(target, func(t *testing.T) {
			b, cdn, book := public(t)
			desc, want := b.blob(9 * mib)
			cdn.AddBlob(b.loc.Path, want)
			b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.RedirectTo, To: "https://cdn.example"})
			o := b.object(desc)
			check(t, o, want, 0, 10)
			check(t, o, want, 3*mib, 10)
			if got := b.reg.Count(http.MethodGet, testregistry.Blob); got != 1 {
				t.Fatalf("%d GETs at the registry for two ranges: its redirect is not remembered", got)
			}
			evil := testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.RedirectTo, To: target}
			cdn.SetFault(evil)
			_, err := o.ReadAt(ctx(t), make([]byte, 10), 5*mib)
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("ReadAt by way of the CDN = %v, want EIO or EHOSTUNREACH", err)
			}
			cdn.ClearFaults()
			b.reg.ClearFaults()
			b.reg.SetFault(evil)
			other, _ := b.blob(10)
			_, err = b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: other.Digest})
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("Stat = %v, want EIO or EHOSTUNREACH", err)
			}
			if len(book.unknown) > 0 {
				t.Errorf("dialed %v", book.unknown)
			}
			for _, r := range cdn.Requests() {
				if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("Referer") != "" {
					t.Errorf("the CDN was sent %v", r.Header)
				}
			}
		})
	}
}

// localAlias is another name of this machine, from its table of hosts.
func localAlias(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "127.0.0.1" && fields[0] != "127.0.1.1" {
			continue
		}
		for _, name := range fields[1:] {
			if !strings.HasPrefix(name, "localhost") {
				return name
			}
		}
	}
	t.Skip("/etc/hosts has no other name for this machine")
	return ""
}

// TestNameOfThisMachine: a redirect to a name that no one can tell to be local,
// until it is dialed.
func TestNameOfThisMachine(t *testing.T) {
	name := localAlias(t)
	b := setup(t, nil, nil)
	b.shut()
	_, port, _ := strings.Cut(b.reg.Host(), ":")
	inner := testregistry.Start(t, nil)
	_, innerPort, _ := strings.Cut(inner.Host(), ":")
	b.loc.Host = name + ":" + port
	b.hosts = locator.Hosts{b.loc.Host: {PlainHTTP: true}}
	b.open(nil)
	desc, _ := b.blob(100)
	b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.RedirectTo, To: "http://" + name + ":" + innerPort})
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("Stat = %v, want EHOSTUNREACH", err)
	}
	if n := inner.Conns(); n > 0 {
		t.Errorf("%d connections to this machine", n)
	}
}

// TestNoHTTP2: parallel ranges are connections of their own, at a registry that
// would speak HTTP/2 and at what it redirects to.
func TestNoHTTP2(t *testing.T) {
	for _, redirect := range []bool{false, true} {
		b := setup(t, &testregistry.Options{TLS: true, Redirect: redirect}, nil)
		b.shut()
		b.open(&fetch.Options{FillBelow: -1, RootCAs: b.reg.CertPool()})
		desc, want := b.blob(9 * mib)
		kind := testregistry.Blob
		if redirect {
			kind = testregistry.CDN
		}
		a := b.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: kind, Act: testregistry.StallHeaders})
		o := b.object(desc)
		var wg sync.WaitGroup
		for _, c := range []int64{0, 3, 6} {
			wg.Go(func() {
				p := make([]byte, 10)
				if _, err := o.ReadAt(ctx(t), p, c*mib); err != nil || string(p) != string(want[c*mib:][:10]) {
					t.Errorf("ReadAt: %v, or wrong bytes", err)
				}
			})
		}
		conns := make(map[string]bool)
		b.reg.Wait(t, func(rs []testregistry.Request) bool {
			clear(conns)
			for _, r := range rs {
				if r.Kind == kind && r.Method == http.MethodGet {
					conns[r.Remote] = true
				}
				if r.Proto != 1 {
					t.Errorf("%s %s over HTTP/%d", r.Method, r.Kind, r.Proto)
				}
			}
			return len(conns) == 3
		})
		a.Release()
		wg.Wait()
	}
}

// FuzzAuthFile: whatever a file of credentials says, asking ends, with an error
// that does not quote it or without one.
func FuzzAuthFile(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"auths":null}`, `{"auths":{"HOST":{}}}`, `{"auths":{"HOST":{"auth":"dTpw"}}}`, `{"auths":{"HOST/team":{"auth":"Og=="}}}`,
		`{"credHelpers":{"HOST":""},"credsStore":"\u0000"}`, `{"auths":{"HOST":{"username":"u","password":"\n"}}}`, `{"auths":{"https://HOST/v1/":{"registrytoken":"\u0001"}}}`,
	} {
		f.Add(seed)
	}
	reg := testregistry.Start(f, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"})
	loc := locator.Locator{Host: reg.Host(), Path: "team/app"}
	dgst := reg.AddBlob(loc.Path, []byte("x"))
	f.Setenv("PATH", f.TempDir()) // no helpers
	f.Fuzz(func(t *testing.T, file string) {
		dir := t.TempDir()
		config := filepath.Join(dir, "config.json")
		if err := os.WriteFile(config, []byte(strings.ReplaceAll(file, "HOST", reg.Host())), 0o600); err != nil {
			t.Fatal(err)
		}
		store, err := content.Open(filepath.Join(dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		f := fetch.New(store, nil, &fetch.Options{DockerConfig: config})
		defer f.Close()
		_, err = f.Stat(t.Context(), loc, ocispec.Descriptor{Digest: dgst})
		// A registry token alone is nothing that Basic could send.
		if err != nil && !errors.Is(err, os.ErrPermission) && !strings.Contains(err.Error(), "missing username or password for basic auth") {
			t.Errorf("Stat = %v, want ErrPermission", err)
		}
	})
}
