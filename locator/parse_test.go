package locator_test

import (
	"strings"
	"testing"

	"distfs/locator"
)

const (
	hex64   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha256a = "sha256:" + hex64
)

func hosts() locator.Hosts {
	return locator.Hosts{"local": {Layouts: "/srv/layouts"}, "registry": {}}
}

func TestParseLocator(t *testing.T) {
	for in, want := range map[string]locator.Locator{
		"redis":                              {Host: "docker.io", Path: "library/redis"},
		"library/redis":                      {Host: "docker.io", Path: "library/redis"},
		"redis/redis-stack":                  {Host: "docker.io", Path: "redis/redis-stack"},
		"docker.io/redis":                    {Host: "docker.io", Path: "library/redis"},
		"index.docker.io/redis":              {Host: "docker.io", Path: "library/redis"},
		"registry-1.docker.io/library/redis": {Host: "docker.io", Path: "library/redis"},
		"Docker.IO/redis":                    {Host: "docker.io", Path: "library/redis"},
		"docker.io:443/redis":                {Host: "docker.io:443", Path: "redis"},
		"ghcr.io":                            {Host: "docker.io", Path: "library/ghcr.io"},
		"localhost":                          {Host: "docker.io", Path: "library/localhost"},
		"ghcr.io/org/app":                    {Host: "ghcr.io", Path: "org/app"},
		"GHCR.io/app":                        {Host: "ghcr.io", Path: "app"},
		"localhost/app":                      {Host: "localhost", Path: "app"},
		"Localhost/app":                      {Host: "localhost", Path: "app"},
		"localhost:5000/a/b/c":               {Host: "localhost:5000", Path: "a/b/c"},
		"redis:7/app":                        {Host: "redis:7", Path: "app"},
		"127.0.0.1:5000/app":                 {Host: "127.0.0.1:5000", Path: "app"},
		"[::1]:5000/app":                     {Host: "[::1]:5000", Path: "app"},
		"[::1]/app":                          {Host: "[::1]", Path: "app"},
		"[0:0:0:0:0:0:0:1]/app":              {Host: "[::1]", Path: "app"},
		"[2001:DB8::1]:65535/app":            {Host: "[2001:db8::1]:65535", Path: "app"},
		"xn--80ak6aa92e.com/app":             {Host: "xn--80ak6aa92e.com", Path: "app"},
		"local/app":                          {Host: "local", Path: "app"},
		"LOCAL/app":                          {Host: "local", Path: "app"},
		"registry/a/b":                       {Host: "registry", Path: "a/b"},
		"local":                              {Host: "docker.io", Path: "library/local"},
		"a.b/c__d/e--f/0":                    {Host: "a.b", Path: "c__d/e--f/0"},
		"a.b/sha256":                         {Host: "a.b", Path: "sha256"},
	} {
		got, err := hosts().ParseLocator(in)
		if err != nil || got != want {
			t.Errorf("ParseLocator(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestParseLocatorRefuses(t *testing.T) {
	for _, c := range []struct{ in, part, why string }{
		{"", "path", "is empty"},
		{"/", "path", `component "" is empty`},
		{"/redis", "path", `component "" is empty`},
		{"redis/", "path", `component "" is empty`},
		{"a//b", "path", `component "" is empty`},
		{"ghcr.io/", "path", "is empty"},
		{"ghcr.io//a", "path", `component "" is empty`},
		{"ghcr.io/../a", "path", `component ".." ends in ".."`},
		{"ghcr.io/./a", "path", `component "." ends in "."`},
		{"ghcr.io/.git/a", "path", `component ".git" begins with "."`},
		{"ghcr.io/a_/b", "path", `component "a_" ends in "_"`},
		{"ghcr.io/-a", "path", `begins with "-"`},
		{"ghcr.io/a..b", "path", `has ".." between`},
		{"ghcr.io/a___b", "path", `has "___" between`},
		{"ghcr.io/a._b", "path", `has "._" between`},
		{"ghcr.io/a-_b", "path", `has "-_" between`},
		{"ghcr.io/App", "path", `has the upper-case letter "A"`},
		{"ghcr.io/a b", "path", `has " "`},
		{"ghcr.io/a\x00b", "path", `has "\x00"`},
		{"ghcr.io/a\nb", "path", `has "\n"`},
		{"ghcr.io/caf\u00e9", "path", `has "\u00e9"`},
		{"ghcr.io/a\xff", "path", `has "\xff"`},
		{"ghcr.io/a=1", "path", `has "="`},
		{"ghcr.io/a%2fb", "path", `has "%"`},
		{"Foo/bar", "path", `"Foo" is no host either`},
		{"redis ", "path", `has " "`},
		{"https://ghcr.io/a", "host", `begins with "https://"`},
		{"docker://redis", "host", `begins with "docker://"`},
		{"host:0/a", "host", `port "0"`},
		{"host:080/a", "host", `port "080"`},
		{"host:65536/a", "host", `port "65536"`},
		{"host:+80/a", "host", `port "+80"`},
		{"host:x/a", "host", `port "x"`},
		{"host:/a", "host", "has a colon, but no port"},
		{":5000/a", "host", "is only a port"},
		{".com/a", "host", "dot at its start"},
		{"a..com/b", "host", "two in a row"},
		{"a.com./b", "host", "dot at its start or end"},
		{"-a.com/b", "host", "hyphen"},
		{"a-.com/b", "host", "hyphen"},
		{"a_b.com/b", "host", `has "_"`},
		{"user:pw@a.com/b", "digest", "a locator has none; where"},
		{"1.2.3/a", "host", "no IPv4 address"},
		{"256.1.1.1/a", "host", "no IPv4 address"},
		{"127.1/a", "host", "no IPv4 address"},
		{"::1/a", "host", "more than one colon"},
		{"[::1/a", "host", "[ without a ]"},
		{"[::1]5000/a", "host", "[ without a ]"},
		{"[::1]:/a", "host", "no port"},
		{"[1.2.3.4]/a", "host", "no IPv6 address"},
		{"[::g]/a", "host", "no IPv6 address"},
		{"[fe80::1%eth0]/a", "host", "no IPv6 address"},
		{"[]:80/a", "host", "no IPv6 address"},
		{strings.Repeat("a", 64) + ".com/a", "host", "at most 63"},
		{strings.Repeat("a.", 127) + "a/a", "host", "at most 253"},
		{strings.Repeat("a.", 200) + "a/a", "host", "at most 255"},
		{"a.b/" + strings.Repeat("a", 256), "path", "256 bytes long, at most 255"},
		{"docker.io/" + strings.Repeat("a", 250), "path", "258 bytes long, at most 255"},

		{"redis:7", "tag", `"docker.io/library/redis" and "7"`},
		{"ghcr.io/a:v1", "tag", `"ghcr.io/a" and "v1"`},
		{"ghcr.io/a:", "tag", `own: "ghcr.io/a"`},
		{"ghcr.io/a@" + sha256a, "digest", `"ghcr.io/a" and "sha256:e3b0`},
		{"ghcr.io/a:v1@" + sha256a, "digest", `"ghcr.io/a" and "sha256:e3b0`},
		{"ghcr.io/a@x", "digest", `own: "ghcr.io/a"`},
		{"localhost:5000", "path", `write "localhost:5000/PATH"`},
		{"ghcr.io:443", "path", `write "ghcr.io:443/PATH"`},
	} {
		_, err := hosts().ParseLocator(c.in)
		wantError(t, "ParseLocator", c.in, err, c.part, c.why)
	}
}

func TestParseReference(t *testing.T) {
	for in, want := range map[string]string{
		"redis":                                 "docker.io/library/redis:latest",
		"redis:7":                               "docker.io/library/redis:7",
		"redis@" + sha256a:                      "docker.io/library/redis@" + sha256a,
		"redis:7@" + sha256a:                    "docker.io/library/redis:7@" + sha256a,
		"localhost:5000":                        "docker.io/library/localhost:5000",
		"localhost:5000/app":                    "localhost:5000/app:latest",
		"localhost:5000/app:v1":                 "localhost:5000/app:v1",
		"[::1]:5000/app:v1@" + sha256a:          "[::1]:5000/app:v1@" + sha256a,
		"local/app":                             "local/app:latest",
		"ghcr.io/a/b:_x.Y-z":                    "ghcr.io/a/b:_x.Y-z",
		"ghcr.io/a/b:" + hex64:                  "ghcr.io/a/b:" + hex64,
		"ghcr.io/" + hex64:                      "ghcr.io/" + hex64 + ":latest",
		"ghcr.io/a:" + strings.Repeat("t", 128): "ghcr.io/a:" + strings.Repeat("t", 128),
		hex64 + ":x":                            "docker.io/library/" + hex64 + ":x",
		"ghcr.io/a@sha512:" + hex64 + hex64:     "ghcr.io/a@sha512:" + hex64 + hex64,
	} {
		got, err := hosts().ParseReference(in)
		if err != nil || got.String() != want {
			t.Errorf("ParseReference(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for _, c := range []struct{ in, part, why string }{
		{"", "path", "is empty"},
		{":7", "path", "is empty"},
		{"@" + sha256a, "path", "is empty"},
		{"redis:", "tag", "is empty"},
		{"redis:@" + sha256a, "tag", "is empty"},
		{"redis:-1", "tag", `begins with "-"`},
		{"redis:.1", "tag", `begins with "."`},
		{"redis:a+b", "tag", `has "+"`},
		{"redis:" + strings.Repeat("t", 129), "tag", "129 bytes long, at most 128"},
		{"redis@", "digest", "is empty"},
		{"redis@7", "digest", "has no colon"},
		{"redis@sha256:", "digest", "has 0 digits"},
		{"redis@sha256:abc", "digest", "has 3 digits, sha256 has 64"},
		{"redis@" + strings.ToUpper(sha256a), "digest", `algorithm "SHA256"`},
		{"redis@sha256:" + strings.ToUpper(hex64), "digest", `upper-case digit "E"`},
		{"redis@md5:" + hex64, "digest", `algorithm "md5" is not supported`},
		{"redis@" + sha256a + "@" + sha256a, "digest", "has 136 digits"},
		{"redis@" + sha256a + ":7", "digest", "has 66 digits"},
		{hex64, "reference", "64 hex digits without a repository"},
		{sha256a, "reference", "a digest without a repository"},
		{"sha256:abc", "reference", "a digest without a repository"},
		{"a:b:c", "path", `has ":"`},
		{"a:b/c", "host", `port "b"`},
	} {
		_, err := hosts().ParseReference(c.in)
		wantError(t, "ParseReference", c.in, err, c.part, c.why)
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[locator.Locator]string{
		{Host: "docker.io", Path: "redis"}:            "docker.io/library/redis",
		{Host: "docker.io", Path: "redis/stack"}:      "docker.io/redis/stack",
		{Host: "registry-1.docker.io", Path: "redis"}: "docker.io/library/redis",
		{Host: "GHCR.io", Path: "redis"}:              "ghcr.io/redis",
		{Host: "docker.io"}:                           "docker.io/",
	} {
		if got := in.Canonical(); got.String() != want {
			t.Errorf("%#v.Canonical() = %s, want %s", in, got, want)
		}
	}
}
