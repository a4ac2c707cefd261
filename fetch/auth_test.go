package fetch_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// login writes a docker config.json with a password for each key.
func login(t *testing.T, path string, auths map[string]string) {
	t.Helper()
	var entries []string
	for key, pair := range auths {
		entries = append(entries, fmt.Sprintf("%q:{\"auth\":%q}", key, base64.StdEncoding.EncodeToString([]byte(pair))))
	}
	if err := os.WriteFile(path, []byte(`{"auths":{`+strings.Join(entries, ",")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDockerHub: docker.io's name leads to registry-1.docker.io and its
// anonymous token, through a dialer that leads both to loopback.
func TestDockerHub(t *testing.T) {
	reg := testregistry.Start(t, &testregistry.Options{
		TLS: true, Names: []string{"registry-1.docker.io", "auth.docker.io"},
		Auth: testregistry.BearerAuth, Realm: "https://auth.docker.io/token", Service: "registry.docker.io",
	})
	var asked []string
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		asked = append(asked, addr)
		to, ok := map[string]string{"registry-1.docker.io:443": reg.Host(), "auth.docker.io:443": reg.TokenHost()}[addr]
		if !ok {
			return nil, fmt.Errorf("dialed %s", addr)
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	b := &bench{t: t, reg: reg, dir: t.TempDir(), log: &lockedBuffer{}}
	b.open(&fetch.Options{Dial: dial, RootCAs: reg.CertPool(), FillBelow: -1})
	ref, err := locator.Hosts(nil).ParseReference("redis:7")
	if err != nil {
		t.Fatal(err)
	}
	b.loc = ref.Locator
	m := []byte(`{"schemaVersion":2}`)
	dgst := reg.AddManifest("library/redis", "7", ocispec.MediaTypeImageManifest, m)
	layer, want := b.blob(3 * mib)

	desc, err := b.f.Resolve(ctx(t), ref)
	if err != nil || desc.Digest != dgst {
		t.Fatalf("Resolve(%s) = %v, %v, want %s", ref, desc, err, dgst)
	}
	check(t, b.object(desc), m, 0, int64(len(m)))
	o := b.object(layer)
	check(t, o, want, 0, 10)
	check(t, o, want, 2*mib, 10)
	if got := reg.Count("", testregistry.Token); got != 1 {
		t.Errorf("%d tokens for one repository, want 1 (dialed %v)", got, asked)
	}
	refused := 0
	for _, r := range reg.Requests() {
		if r.Status == http.StatusUnauthorized {
			refused++
		}
		if r.Kind == testregistry.Token && (r.Header.Get("Authorization") != "" || !strings.Contains(r.Query, "repository%3Alibrary%2Fredis%3Apull")) {
			t.Errorf("token asked for with %q and Authorization %q", r.Query, r.Header.Get("Authorization"))
		}
	}
	if refused != 1 {
		t.Errorf("%d requests were refused for want of a token, want the first alone", refused)
	}
}

func TestLongestKeyAndLaterLogin(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	b.shut()
	config := filepath.Join(b.dir, "config.json")
	login(t, config, map[string]string{b.reg.Host(): "u:wrong", b.reg.Host() + "/library": "u:p"})
	b.open(&fetch.Options{DockerConfig: config})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
		t.Errorf("Stat with the namespace's own password: %v", err)
	}
	other := locator.Locator{Host: b.loc.Host, Path: "other/app"}
	dgst := b.reg.AddBlob(other.Path, []byte("x"))
	_, err := b.f.Stat(ctx(t), other, ocispec.Descriptor{Digest: dgst})
	if !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("Stat with the host's wrong password = %v, want ErrPermission", err)
	}
	login(t, config, map[string]string{b.reg.Host(): "u:p", "and-so": "it:differs"})
	if _, err = b.f.Stat(ctx(t), other, ocispec.Descriptor{Digest: dgst}); err != nil {
		t.Errorf("Stat after a login: %v", err)
	}
}

func TestExpiredTokenIsRenewed(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth, ExpiredStatus: status}, &fetch.Options{FillBelow: -1})
		desc, want := b.blob(9 * mib)
		o := b.object(desc)
		check(t, o, want, 0, 10)
		b.reg.ExpireTokens()
		check(t, o, want, 5*mib, 10)
		if got := b.reg.Count("", testregistry.Token); got != 2 {
			t.Errorf("%d tokens after one expiry by %d, want 2", got, status)
		}
	}
}

// TestRedirectGetsNoCredentials: neither the hop from the registry nor the
// remembered target sees who asks.
func TestRedirectGetsNoCredentials(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p", Redirect: true}, nil)
	b.shut()
	config := filepath.Join(b.dir, "config.json")
	login(t, config, map[string]string{b.reg.Host(): "u:p"})
	b.open(&fetch.Options{DockerConfig: config, FillBelow: -1})
	desc, want := b.blob(9 * mib)
	b.reg.SetFault(testregistry.Fault{Act: testregistry.Headers, Header: http.Header{"Set-Cookie": {"who=you; Path=/"}}})
	o := b.object(desc)
	for _, off := range []int64{0, 3 * mib, 6 * mib} {
		check(t, o, want, off, 10)
	}
	b.reg.ExpireSignatures()
	check(t, o, want, 8*mib, 10)
	for _, r := range b.reg.Requests() {
		if r.Kind == testregistry.CDN && r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s was sent %v", r.Kind, r.Header)
		}
		if e := r.Header.Get("Accept-Encoding"); e != "identity" {
			t.Errorf("Accept-Encoding %q", e)
		}
	}
	if got := b.reg.Count(http.MethodGet, testregistry.CDN); got != 5 {
		t.Errorf("%d requests at the target for 4 ranges and one expiry, want 5", got)
	}
	// A 307 at first, the 401 was the HEAD's, and a 307 after the expiry.
	if got := b.reg.Count(http.MethodGet, testregistry.Blob); got != 2 {
		t.Errorf("%d GETs at the registry, want 2", got)
	}
}

func TestHelperIsAsked(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	b.shut()
	bin := t.TempDir()
	script := "#!/bin/sh\nread -r server\n[ \"$server\" = " + b.reg.Host() + " ] && echo '{\"Username\":\"u\",\"Secret\":\"p\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-mine"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	config := filepath.Join(b.dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"credsStore":"mine"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open(&fetch.Options{DockerConfig: config})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
		t.Errorf("Stat with a helper's password: %v", err)
	}
}
