package locator_test

import (
	"strings"
	"testing"

	"distfs/locator"

	"github.com/google/go-cmp/cmp"
)

func TestIsHost(t *testing.T) {
	for name, want := range map[string]bool{
		"docker.io": true, "ghcr.io": true, "GHCR.io": true, "localhost": true, "localhost:5000": true,
		"127.0.0.1": true, "127.0.0.1:5000": true, "[::1]": true, "[::1]:5000": true, "registry:5000": true,
		"autorun.inf": true, "desktop.ini": true, // have a dot
		"local": true, "registry": true, // configured
		"LocalHost": true, "Local": true,

		"": false, ".": false, "..": false, "...": false, "/": false, "a.b/c": false,
		".git": false, ".git.foo": false, ".Trash": false, ".Trash-1000": false, ".hidden": false,
		".xdg-volume-info": false, ".envrc": false, ".DS_Store": false, ".directory": false,
		"Makefile": false, "HEAD": false, "node_modules": false, "redis": false, "@eaDir": false,
		"lost+found": false, "a b.c": false, "a_b.c": false, "a.b\x00": false, "a.\n": false,
		"foo.": false, "foo.git~": false, "*.go": false, "a.b:": false, "a.b:0": false, ":80": false,
		"localhost=5000": false, "1.2": false, "7.0": false, "[::1": false, "::1": false,
		"#a.b#": false, "._a.b": false, "a.b.": false, strings.Repeat("a", 64) + ".b": false,
		strings.Repeat("a.", 120) + "b": true, strings.Repeat("a.", 130) + "b": false,
	} {
		if got := hosts().IsHost(name); got != want {
			t.Errorf("IsHost(%q) = %t, want %t", name, got, want)
		}
	}
	if locator.Hosts(nil).IsHost("local") {
		t.Errorf(`nil.IsHost("local") = true`)
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"localhost=5000": "localhost:5000", "localhost:5000": "localhost:5000", "[==1]=80": "[::1]:80",
		"ghcr.io": "ghcr.io", "GHCR.io=443": "GHCR.io:443", "local": "local",
	} {
		if got, ok := hosts().ParseHost(in); got != want || !ok {
			t.Errorf("ParseHost(%q) = %q, %t, want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "=", "Makefile", "redis=", "redis=v1", ".git=80", "localhost=0", "a=1=2"} {
		if got, ok := hosts().ParseHost(in); ok {
			t.Errorf("ParseHost(%q) = %q, true", in, got)
		}
	}
}

func TestAlias(t *testing.T) {
	for host, want := range map[string]bool{
		"index.docker.io": true, "Registry-1.docker.io": true,
		"docker.io": false, "Docker.IO": false, "GHCR.io": false, "index.docker.io:443": false, "[::01]": false,
	} {
		if to, ok := locator.Alias(host); ok != want || ok && to != "docker.io" {
			t.Errorf("Alias(%q) = %q, %t, want %t", host, to, ok, want)
		}
	}
}

func TestCanonicalHost(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io":              "docker.io",
		"index.docker.io":        "docker.io",
		"Registry-1.Docker.IO":   "docker.io",
		"GHCR.io:443":            "ghcr.io:443",
		"[::0001]:5000":          "[::1]:5000",
		"[::FFFF:127.0.0.1]":     "[::ffff:127.0.0.1]",
		"Makefile_":              "Makefile_", // no host
		"registry-1.docker.io:1": "registry-1.docker.io:1",
	} {
		if got := locator.CanonicalHost(in); got != want {
			t.Errorf("CanonicalHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRemote(t *testing.T) {
	h := locator.Hosts{
		"local":          {Layouts: "/srv/layouts"},
		"127.0.0.1:5001": {PlainHTTP: true},
		"plain.test":     {PlainHTTP: true},
		"registry":       {},
	}
	for host, want := range map[string]locator.Remote{
		"docker.io":               {Addr: "registry-1.docker.io"},
		"index.docker.io":         {Addr: "registry-1.docker.io"},
		"ghcr.io":                 {Addr: "ghcr.io"},
		"GHCR.io":                 {Addr: "ghcr.io"},
		"registry":                {Addr: "registry"},
		"local":                   {Kind: locator.Layouts, Addr: "/srv/layouts"},
		"plain.test":              {Addr: "plain.test", PlainHTTP: true},
		"127.0.0.1:5001":          {Addr: "127.0.0.1:5001", PlainHTTP: true},
		"localhost":               {Addr: "localhost", Fallback: true},
		"LOCALHOST:5000":          {Addr: "localhost:5000", Fallback: true},
		"127.0.0.1":               {Addr: "127.0.0.1", Fallback: true},
		"127.8.9.1:80":            {Addr: "127.8.9.1:80", Fallback: true},
		"[::1]":                   {Addr: "[::1]", Fallback: true},
		"[::1]:5000":              {Addr: "[::1]:5000", Fallback: true},
		"[::ffff:127.0.0.1]:5000": {Addr: "[::ffff:127.0.0.1]:5000", Fallback: true},

		"128.0.0.1":          {Addr: "128.0.0.1"},
		"[::2]:5000":         {Addr: "[::2]:5000"},
		"127.0.0.1.nip.io":   {Addr: "127.0.0.1.nip.io"},
		"localhost.evil.com": {Addr: "localhost.evil.com"},
		"foo.localhost":      {Addr: "foo.localhost"},
		"0.0.0.0":            {Addr: "0.0.0.0"},
	} {
		if diff := cmp.Diff(want, h.Remote(host)); diff != "" {
			t.Errorf("Remote(%q) (-want +got):\n%s", host, diff)
		}
	}
}

func TestMirrorsOfHost(t *testing.T) {
	pair := []locator.KeyPair{{Cert: "/c", Key: "/k"}}
	h := locator.Hosts{
		"docker.io": {Client: pair, Mirrors: []string{
			"m.test", "http://M.test:80/", "https://m.test/v2/proxy", "m.test/hub/", "localhost:5000", "ca.test", "plain.test", "https://plain.test", "dir", "http://dir", "docker.io/other",
		}},
		"ca.test":    {CA: []string{"/ca"}, Mirrors: []string{"not.test"}},
		"plain.test": {PlainHTTP: true},
		"dir":        {Layouts: "/srv"},
	}
	want := locator.Remote{Addr: "registry-1.docker.io", Client: pair, Mirrors: []locator.Remote{
		{Addr: "m.test"},
		{Addr: "m.test:80", PlainHTTP: true},
		{Addr: "m.test", Root: "/v2/proxy"},
		{Addr: "m.test", Root: "/hub/v2"},
		{Addr: "localhost:5000", Fallback: true},
		{Addr: "ca.test", CA: []string{"/ca"}},
		{Addr: "plain.test", PlainHTTP: true},
		{Addr: "plain.test"},
		{Kind: locator.Layouts, Addr: "/srv"},
		{Addr: "dir", PlainHTTP: true},
		{Addr: "registry-1.docker.io", Root: "/other/v2", Client: pair},
	}}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, h.Remote("docker.io")); diff != "" {
		t.Errorf("Remote (-want +got):\n%s", diff)
	}
}

func TestRemoteOfDockerConfigured(t *testing.T) {
	h := locator.Hosts{"docker.io": {Layouts: "/srv"}}
	want := locator.Remote{Kind: locator.Layouts, Addr: "/srv"}
	if diff := cmp.Diff(want, h.Remote("registry-1.docker.io")); diff != "" {
		t.Errorf("Remote (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	for _, name := range []string{"local", "docker.io", "localhost:5000", "[::1]:5000", "a-1"} {
		if err := (locator.Hosts{name: {PlainHTTP: true}}).Validate(); err != nil {
			t.Errorf("Validate of %q = %v", name, err)
		}
	}
	if err := hosts().Validate(); err != nil {
		t.Errorf("Validate = %v", err)
	}
	if err := locator.Hosts(nil).Validate(); err != nil {
		t.Errorf("Validate of nil = %v", err)
	}
	for _, c := range []struct {
		name, why string
		host      locator.Host
	}{
		{name: "", why: "is empty"},
		{name: "..", why: "dot at its start"},
		{name: "a/b", why: `has "/"`},
		{name: "a_b", why: `has "_"`},
		{name: "https://a.b", why: `port "//a.b"`},
		{name: "Local", why: "write local"},
		{name: "index.docker.io", why: "write docker.io"},
		{name: "[0::1]", why: "write [::1]"},
		{name: "local", why: `layouts "/a\x00"`, host: locator.Host{Layouts: "/a\x00"}},
		{name: "local", why: "layouts and plain_http", host: locator.Host{Layouts: "/a", PlainHTTP: true}},
		{name: "local", why: "layouts and ca", host: locator.Host{Layouts: "/a", CA: []string{"/ca"}}},
		{name: "local", why: "layouts and mirrors", host: locator.Host{Layouts: "/a", Mirrors: []string{"m.test"}}},
		{name: "local", why: "plain_http and ca", host: locator.Host{PlainHTTP: true, Client: []locator.KeyPair{{Cert: "/c"}}}},
		{name: "local", why: "is the host itself", host: locator.Host{Mirrors: []string{"LOCAL"}}},
		{name: "local", why: `mirror "m.test/v2" is given twice`, host: locator.Host{Mirrors: []string{"m.test", "m.test/v2"}}},
		{name: "local", why: "is no URL of http or https", host: locator.Host{Mirrors: []string{"ftp://m.test"}}},
		{name: "local", why: "has a mirror with a user in it", host: locator.Host{Mirrors: []string{"a:b@m.test"}}},
		{name: "local", why: "more than a host and a path", host: locator.Host{Mirrors: []string{"https://m.test/?ns=x"}}},
		{name: "local", why: `mirror "" is empty`, host: locator.Host{Mirrors: []string{""}}},
		{name: "local", why: "17 mirrors", host: locator.Host{Mirrors: make([]string, 17)}},
	} {
		err := locator.Hosts{c.name: c.host, "zzz": {}, "z_": {}}.Validate()
		wantError(t, "Validate", c.name, err, "configured host", c.why)
	}
}
