package fetch_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// write writes a file below a folder of the test's, and its folders.
func (b *bench) write(name, text string) string {
	b.t.Helper()
	name = filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return name
}

// copied puts a copy of a file where write would put one.
func (b *bench) copied(name, from string) {
	b.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name, string(text))
}

// certs opens the bench anew with these folders below its own.
func (b *bench) certs(dirs ...string) {
	b.t.Helper()
	b.shut()
	opts := &fetch.Options{}
	for _, d := range dirs {
		opts.CertsDirs = append(opts.CertsDirs, filepath.Join(b.dir, d))
	}
	b.open(opts)
}

// TestCertsFolders: which folder a host's hosts.toml is taken from. Each names
// another repository's root on the same mirror.
func TestCertsFolders(t *testing.T) {
	mirror := testregistry.Start(t, nil)
	file := func(name string) string {
		return fmt.Sprintf("[host.%q]\noverride_path = true\n", mirror.URL()+"/v2/"+name)
	}
	for _, c := range []struct {
		files []string // below two folders, a and b
		want  string
	}{
		{[]string{"a/HOST_PORT_", "a/HOST:PORT", "a/_default", "b/HOST_PORT_"}, "a/HOST_PORT_"},
		{[]string{"a/HOST:PORT", "a/_default", "b/HOST_PORT_"}, "a/HOST:PORT"},
		{[]string{"a/_default", "b/HOST_PORT_"}, "a/_default"},
		{[]string{"b/HOST_PORT_", "b/_default"}, "b/HOST_PORT_"},
		{[]string{"a/HOST", "a/other.test", "b/_default"}, "b/_default"},
		{[]string{"a/HOST"}, ""},
	} {
		b := setup(t, nil, nil)
		host, port, _ := strings.Cut(b.loc.Host, ":")
		for i, f := range c.files {
			f = strings.NewReplacer("HOST", host, "PORT", port).Replace(f)
			b.write(f+"/hosts.toml", file(fmt.Sprint("r", i)))
		}
		b.certs("a", "b", "absent")
		desc, _ := b.blob(100)
		mirror.Forget()
		if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range mirror.Requests() {
			name, rest, _ := strings.Cut(r.Repo, "/")
			if rest != b.loc.Path {
				t.Errorf("the mirror was asked for %s", r.Repo)
			}
			got = c.files[int(name[1]-'0')]
		}
		if got != c.want {
			t.Errorf("with %v the mirror of %q was asked, want %q", c.files, got, c.want)
		}
	}
}

// TestConfiguredBeatsCertsFolder.
func TestConfiguredBeatsCertsFolder(t *testing.T) {
	b := setup(t, nil, nil)
	b.write("certs.d/_default/hosts.toml", "this is no TOML")
	b.hosts = locator.Hosts{b.loc.Host: {}}
	b.certs("certs.d")
	desc, want := b.blob(100)
	check(t, b.object(desc), want, 0, 100)
}

// TestMalformedHostsFile is an error that says where, of that host alone, and
// is looked at again.
func TestMalformedHostsFile(t *testing.T) {
	b := setup(t, nil, nil)
	other := testregistry.Start(t, nil)
	name := b.write("certs.d/"+b.loc.Host+"/hosts.toml", "\nserver = 1\n")
	b.certs("certs.d")
	desc, want := b.everywhere(100, other)
	_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
	if err == nil || !strings.Contains(err.Error(), name+":2: ") {
		t.Errorf("Stat = %v, want an error of %s:2", err, name)
	}
	if _, err := b.f.Stat(ctx(t), locator.Locator{Host: other.Host(), Path: b.loc.Path}, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
		t.Errorf("Stat at another host = %v", err)
	}
	if b.reg.Count("", "") != 0 {
		t.Error("the host was asked in spite of its file")
	}
	b.write("certs.d/"+b.loc.Host+"/hosts.toml", "")
	check(t, b.object(desc), want, 0, 100)
}

// TestHostsFileThatIsNone: too large, or no file at all.
func TestHostsFileThatIsNone(t *testing.T) {
	b := setup(t, nil, nil)
	name := b.write("certs.d/"+b.loc.Host+"/hosts.toml", strings.Repeat("#", 1<<20+1))
	b.certs("certs.d")
	desc, _ := b.blob(100)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("Stat with a file of more than 1 MiB = %v", err)
	}
	os.Remove(name)
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Stat with a fifo = %v", err)
	}
}

// TestCapabilities: who may only pull is not asked what a tag means, and who
// may not pull is asked for no bytes.
func TestCapabilities(t *testing.T) {
	b := setup(t, nil, nil)
	puller, resolver := testregistry.Start(t, nil), testregistry.Start(t, nil)
	b.write("certs.d/_default/hosts.toml", fmt.Sprintf(`
[host.%q]
capabilities = ["pull"]
[host.%q]
capabilities = ["resolve"]
`, puller.URL(), resolver.URL()))
	b.certs("certs.d")
	desc, want := b.everywhere(100, puller, resolver)
	m := []byte(`{"schemaVersion":2}`)
	evil := puller.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"evil":1}`))
	good := resolver.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)
	got, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"})
	if err != nil || got.Digest != good {
		t.Errorf("Resolve = %v, %v, want %s and not %s", got.Digest, err, good, evil)
	}
	if puller.Count("", "") != 0 {
		t.Error("who may only pull was asked for a tag")
	}
	resolver.Forget()
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 100)
	if puller.Sent(desc.Digest) != 100 || resolver.Count("", "") != 0 {
		t.Errorf("who may pull sent %d bytes, who may not had %d requests", puller.Sent(desc.Digest), resolver.Count("", ""))
	}
}

// TestNobodyIsTrusted with it.
func TestNobodyIsTrusted(t *testing.T) {
	b := setup(t, nil, nil)
	b.write("certs.d/_default/hosts.toml", fmt.Sprintf("server = %q\ncapabilities = [\"pull\"]\n", b.reg.URL()))
	b.certs("certs.d")
	if _, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: "7"}); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("Resolve = %v, want ErrPermission", err)
	}
}

// TestHeaderStaysWithItsSource: neither the redirect's target, nor the token
// server, nor the next source sees it.
func TestHeaderStaysWithItsSource(t *testing.T) {
	b := setup(t, nil, nil)
	mirror := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BearerAuth, Redirect: true})
	b.write("certs.d/_default/hosts.toml", fmt.Sprintf("[host.%q.header]\nx-key = [\"secret\", \"more\"]\n", mirror.URL()))
	b.certs("certs.d")
	desc, want := b.everywhere(100, mirror)
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 100)
	only, wantOnly := b.blob(200)
	check(t, b.object(only), wantOnly, 0, 200)
	seen := make(map[testregistry.Kind]int)
	for _, r := range append(mirror.Requests(), b.reg.Requests()...) {
		got := strings.Join(r.Header["X-Key"], "+")
		atMirror := r.Query != "" && (r.Kind == testregistry.Blob || r.Kind == testregistry.Manifest)
		if atMirror != (got == "secret+more") || !atMirror && got != "" {
			t.Errorf("%s of %s?%s with the header %q", r.Method, r.Kind, r.Query, got)
		}
		seen[r.Kind]++
	}
	if seen[testregistry.CDN] == 0 || seen[testregistry.Token] == 0 {
		t.Errorf("requests by kind: %v", seen)
	}
}

// TestTLSOfSources: each way to say who vouches for a source and who asks it.
// Without, it is not asked; the certificate is shown to the source alone.
func TestTLSOfSources(t *testing.T) {
	type setting func(b *bench, reg *testregistry.Registry, cert, key string)
	ropts := testregistry.Options{TLS: true, ClientCert: true, Redirect: true, Auth: testregistry.BearerAuth}
	for _, c := range []struct {
		name string
		set  setting
		err  bool
	}{
		{"nothing", func(*bench, *testregistry.Registry, string, string) {}, true},
		{"ca alone", func(b *bench, reg *testregistry.Registry, _, _ string) {
			b.hosts = locator.Hosts{reg.Host(): {CA: []string{reg.CAFile(t)}}}
		}, true},
		{"configured", func(b *bench, reg *testregistry.Registry, cert, key string) {
			b.hosts = locator.Hosts{reg.Host(): {CA: []string{reg.CAFile(t)}, Client: []locator.KeyPair{{Cert: cert, Key: key}}}}
		}, false},
		{"hosts.toml", func(b *bench, reg *testregistry.Registry, cert, key string) {
			b.copied("certs.d/_default/ca.pem", reg.CAFile(t))
			b.copied("certs.d/_default/c.pem", cert)
			b.write("certs.d/_default/hosts.toml", fmt.Sprintf("ca = \"ca.pem\"\nclient = [[\"c.pem\", %q]]\n", key))
		}, false},
		{"one file of both", func(b *bench, reg *testregistry.Registry, cert, key string) {
			c, _ := os.ReadFile(cert)
			k, _ := os.ReadFile(key)
			b.write("certs.d/_default/both.pem", string(c)+string(k))
			b.write("certs.d/_default/hosts.toml", fmt.Sprintf("ca = [%q]\nclient = \"both.pem\"\n", reg.CAFile(t)))
		}, false},
		{"skip_verify", func(b *bench, _ *testregistry.Registry, cert, key string) {
			b.write("certs.d/_default/hosts.toml", fmt.Sprintf("skip_verify = true\nclient = [[%q, %q]]\n", cert, key))
		}, false},
		{"docker's names", func(b *bench, reg *testregistry.Registry, cert, key string) {
			b.copied("certs.d/"+reg.Host()+"/ca.crt", reg.CAFile(t))
			b.copied("certs.d/"+reg.Host()+"/client.cert", cert)
			b.copied("certs.d/"+reg.Host()+"/client.key", key)
		}, false},
		{"a file that is none", func(b *bench, reg *testregistry.Registry, _, _ string) {
			b.hosts = locator.Hosts{reg.Host(): {CA: []string{b.write("x.pem", "x")}}}
		}, true},
		{"a file that is not there", func(b *bench, reg *testregistry.Registry, _, _ string) {
			b.hosts = locator.Hosts{reg.Host(): {Client: []locator.KeyPair{{Cert: "/absent"}}}}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, &ropts, nil)
			cert, key := b.reg.ClientFiles(t)
			c.set(b, b.reg, cert, key)
			b.certs("certs.d")
			desc, want := b.blob(100)
			_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
			if c.err != (err != nil) {
				t.Fatalf("Stat = %v", err)
			}
			if c.err {
				if n := b.reg.Count("", testregistry.Blob); n != 0 {
					t.Errorf("%d requests", n)
				}
				return
			}
			check(t, b.object(desc), want, 0, 100)
			for _, r := range b.reg.Requests() {
				if r.Shown != (r.Kind == testregistry.Blob) {
					t.Errorf("%s of %s: the client's certificate was shown: %t", r.Method, r.Kind, r.Shown)
				}
			}
			if b.reg.Count("", testregistry.CDN) == 0 || b.reg.Count("", testregistry.Token) == 0 {
				t.Error("no redirect, or no token")
			}
		})
	}
}

// TestTrustIsASources: what vouches for a mirror does not for the host itself.
func TestTrustIsASources(t *testing.T) {
	b := setup(t, &testregistry.Options{TLS: true}, nil)
	mirror := testregistry.Start(t, &testregistry.Options{TLS: true})
	b.write("certs.d/_default/hosts.toml", fmt.Sprintf("[host.%q]\nskip_verify = true\n", mirror.URL()))
	b.certs("certs.d")
	desc, want := b.everywhere(100, mirror)
	check(t, b.object(desc), want, 0, 100)
	only, _ := b.blob(200)
	_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: only.Digest})
	if err == nil || b.reg.Count("", "") != 0 {
		t.Errorf("Stat = %v at a host for which nobody vouches", err)
	}
}

// TestDockerHubMirror: docker.io's mirror and then registry-1.docker.io, the
// mirror alone with ns=.
func TestDockerHubMirror(t *testing.T) {
	b := setup(t, &testregistry.Options{
		TLS: true, Names: []string{"registry-1.docker.io", "auth.docker.io"},
		Auth: testregistry.BearerAuth, Realm: "https://auth.docker.io/token", Service: "registry.docker.io",
	}, nil)
	b.shut()
	mirror := testregistry.Start(t, &testregistry.Options{TLS: true, Names: []string{"mirror.test"}})
	led := map[string]string{
		"registry-1.docker.io:443": b.reg.Host(), "auth.docker.io:443": b.reg.TokenHost(), "mirror.test:443": mirror.Host(),
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		to, ok := led[addr]
		if !ok {
			return nil, fmt.Errorf("dialed %s", addr)
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	b.loc = locator.Locator{Host: "docker.io", Path: "library/redis"}
	b.hosts = locator.Hosts{"docker.io": {Mirrors: []string{"mirror.test"}}, "mirror.test": {CA: []string{mirror.CAFile(t)}}}
	b.open(&fetch.Options{Dial: dial, RootCAs: b.reg.CertPool()})
	desc, want := b.everywhere(100, mirror)
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 100)
	if b.reg.Count("", "") != 0 || mirror.Requests()[0].Query != "ns=docker.io" {
		t.Errorf("the mirror had the query %q, Docker Hub %d requests", mirror.Requests()[0].Query, b.reg.Count("", ""))
	}
	only, wantOnly := b.blob(200)
	check(t, b.object(ocispec.Descriptor{Digest: only.Digest}), wantOnly, 0, 200)
	for _, r := range b.reg.Requests() {
		if r.Kind == testregistry.Blob && r.Query != "" {
			t.Errorf("Docker Hub had the query %q", r.Query)
		}
	}
}

// TestHTTPBesideTLS: an http:// URL with settings of TLS means both, HTTPS
// first, as with containerd.
func TestHTTPBesideTLS(t *testing.T) {
	for _, tls := range []bool{true, false} {
		b := setup(t, nil, nil)
		mirror := testregistry.Start(t, &testregistry.Options{TLS: tls})
		b.write("certs.d/_default/hosts.toml", fmt.Sprintf("[host.\"http://%s\"]\nskip_verify = true\n", mirror.Host()))
		b.certs("certs.d")
		desc, want := b.everywhere(100, mirror)
		check(t, b.object(desc), want, 0, 100)
		if mirror.Sent(desc.Digest) != 100 {
			t.Errorf("with TLS %t: the mirror did not serve", tls)
		}
	}
}

// TestDialTimeout is a source's own.
func TestDialTimeout(t *testing.T) {
	b := setup(t, nil, nil)
	b.shut()
	const quick = 3 * time.Second
	b.write("certs.d/_default/hosts.toml", "[host.\"http://mirror.test\"]\ndial_timeout = \"3s\"\n")
	left := make(map[string]time.Duration)
	var mu sync.Mutex
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		end, ok := ctx.Deadline()
		mu.Lock()
		defer mu.Unlock()
		if ok {
			left[addr] = time.Until(end)
		}
		if addr == "mirror.test:80" {
			return nil, syscall.ECONNREFUSED
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	b.open(&fetch.Options{Dial: dial, CertsDirs: []string{filepath.Join(b.dir, "certs.d")}})
	desc, want := b.blob(100)
	check(t, b.object(desc), want, 0, 100)
	mu.Lock()
	defer mu.Unlock()
	if d, ok := left["mirror.test:80"]; !ok || d > quick {
		t.Errorf("the mirror is dialed for %v, want at most %v", d, quick)
	}
}
