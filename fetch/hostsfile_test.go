package fetch_test

import (
	"strings"
	"testing"

	"distfs/fetch"

	"github.com/google/go-cmp/cmp"
)

// TestHostsFile holds the examples of containerd's docs/hosts.md, and what its
// code makes of less usual ones.
func TestHostsFile(t *testing.T) {
	for _, c := range []struct{ name, host, file, want string }{
		{"the default for Docker", "docker.io", `
server = "https://docker.io"

[host."https://registry-1.docker.io"]
  capabilities = ["pull", "resolve"]
`, `
https://registry-1.docker.io/v2 pull resolve
https://registry-1.docker.io/v2 pull resolve`},
		{"a local mirror for Docker", "docker.io", `
server = "https://registry-1.docker.io"    # Exclude this to not use upstream

[host."https://public-mirror.example.com"]
  capabilities = ["pull"]                  # Requires less trust, won't resolve tag to digest from this host
[host."https://docker-mirror.internal"]
  capabilities = ["pull", "resolve"]
  ca = "docker-mirror.crt"                 # Or absolute path /etc/containerd/certs.d/docker.io/docker-mirror.crt
`, `
https://public-mirror.example.com/v2 pull ns=docker.io
https://docker-mirror.internal/v2 pull resolve ns=docker.io ca=/dir/docker-mirror.crt
https://registry-1.docker.io/v2 pull resolve`},
		{"a default mirror for all", "ghcr.io", `
[host."https://registry.example.com"]
  capabilities = ["pull", "resolve"]
`, `
https://registry.example.com/v2 pull resolve ns=ghcr.io
https://ghcr.io/v2 pull resolve`},
		{"only the mirror", "ghcr.io", `
server = "https://registry.example.com"
`, `
https://registry.example.com/v2 pull resolve ns=ghcr.io`},
		{"no verification", "docker.io", `
server = "https://registry-1.docker.io"

[host."http://192.168.31.250:5000"]
  capabilities = ["pull", "resolve", "push"]
  skip_verify = true
`, `
https/http://192.168.31.250:5000/v2 pull resolve ns=docker.io skip_verify
https://registry-1.docker.io/v2 pull resolve`},
		{"rough examples", "registry.test", `
[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "/etc/certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]

[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true

[host."http://mirror.registry"]
  capabilities = ["pull"]

[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push"]
  ca = ["/etc/certs/test-1-ca.pem", "/etc/certs/special.pem"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"],["/etc/certs/client.pem", ""]]

[host."https://test-2.registry"]
  client = "/etc/certs/client.pem"

[host."https://test-3.registry"]
  client = ["/etc/certs/client-1.pem", "/etc/certs/client-2.pem"]

[host."https://non-compliant-mirror.registry/v2/upstream"]
  capabilities = ["pull"]
  override_path = true
`, `
https://mirror.registry/v2 pull ns=registry.test ca=/etc/certs/mirror.pem X-Custom-2=["value1" "value2"]
https://mirror-bak.registry/us/v2 pull ns=registry.test skip_verify
http://mirror.registry/v2 pull ns=registry.test
https://test-1.registry/v2 pull resolve ns=registry.test ca=/etc/certs/test-1-ca.pem ca=/etc/certs/special.pem client=/etc/certs/client.cert+/etc/certs/client.key client=/etc/certs/client.pem+
https://test-2.registry/v2 pull resolve ns=registry.test client=/etc/certs/client.pem+
https://test-3.registry/v2 pull resolve ns=registry.test client=/etc/certs/client-1.pem+ client=/etc/certs/client-2.pem+
https://non-compliant-mirror.registry/v2/upstream pull ns=registry.test
https://registry.test/v2 pull resolve`},
		{"the server's own fields", "registry.test", `
capabilities = ["resolve"]
ca = "/etc/path/default"
dial_timeout = "3s"
[header]
  x-custom-1 = "custom header"
[host."onlyhost.registry"]
`, `
https://onlyhost.registry/v2 pull resolve ns=registry.test
https://registry.test/v2 pull resolve ca=/etc/path/default X-Custom-1=["custom header"] dial=3s`},
		{"capabilities of a server that is named", "registry.test", `
server = "registry.test/v2/"
capabilities = ["Pull", "referrers"]
`, `https://registry.test/v2 pull`},
		{"no path at all", "registry.test", `
[host."https://no-prefix.registry"]
override_path = true
[host."https://no-prefix.registry/x/"]
override_path = true
`, `
https://no-prefix.registry pull resolve ns=registry.test
https://no-prefix.registry/x pull resolve ns=registry.test
https://registry.test/v2 pull resolve`},
		{"port 80 is plain", "registry.test", `
server = "http://registry.test:80"
skip_verify = true
`, `http://registry.test:80/v2 pull resolve ns=registry.test skip_verify`},
		{"this machine", "localhost:5000", `ca = "ca.crt"`, `https/http://localhost:5000/v2 pull resolve ca=/dir/ca.crt`},
		{"what is not known", "registry.test", "later = 1\n[host.\"https://a.test\"]\nlater = {}\n[others]\n", `
https://a.test/v2 pull resolve ns=registry.test
https://registry.test/v2 pull resolve`},
	} {
		got, err := fetch.HostsFile([]byte(c.file), c.host, "/dir")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(strings.Split(strings.TrimSpace(c.want), "\n"), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestHostsFileRefused(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"server = \"https://a.test\"\nserver = 1\n", "2: "},
		{"\n\nserver =\n", "3: "},
		{"capabilities = \"pull\"\n", "1: "},
		{"\n[host.\"https://a.test\"]\ncapabilities = [\"fly\"]\n", `2: host "https://a.test": capability "fly"`},
		{"\n\nserver = \"ftp://a.test\"\n", `3: server "ftp://a.test": no URL of http or https`},
		{"server = \"https://u:p@a.test\"\n", "1: server"},
		{"server = \"https://a.test/?x\"\n", "more than a host and a path"},
		{"server = \"https://a_b\"\n", `has "_"`},
		{"server = \"https://a.test:99999\"\n", "port"},
		{"[host.\"https://a.test\"]\nca = 1\n", "ca: no file"},
		{"[host.\"https://a.test\"]\nca = [\"\"]\n", "ca: a file's name is empty"},
		{"[host.\"https://a.test\"]\nclient = [[\"a\", \"b\", \"c\"]]\n", "client: no file"},
		{"[host.\"https://a.test\"]\nclient = [[\"\", \"b\"]]\n", "client: a file's name is empty"},
		{"[host.\"https://a.test\"]\nclient = {}\n", "client: no file"},
		{"dial_timeout = \"soon\"\n", `1: server: dial_timeout: "soon"`},
		{"[header]\nx = 1\n", `header: "x"`},
		{"[header]\n\"x y\" = \"secret\"\n", `header: "x y"`},
		{"[header]\nx = \"secret\\nb\"\n", `header: "x"`},
		{"\n[host]\n\"https://a.test\" = {capabilities = [\"pull\"]}\n", `2: each host is a table of its own`},
		{strings.Repeat("[host.\"https://a.test\"]\n", 2), "2: "},
		{"[host.\"https://a.test\"]\n[[host.\"https://a.test\".x]]\n" + manyHosts(33), "at most 32"},
	} {
		got, err := fetch.HostsFile([]byte(c.file), "registry.test", "/dir")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q = %q, %v, want an error with %q", c.file, got, err, c.want)
		}
	}
}

func manyHosts(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("[host.\"https://m" + strings.Repeat("x", i) + ".test\"]\n")
	}
	return b.String()
}

func FuzzHostsFile(f *testing.F) {
	for _, s := range []string{
		"", "server = \"https://a.test\"\n[host.\"http://b.test/x\"]\noverride_path = true\n", "[host.\"\\u0061\"]\n", "host.a.ca = 1\n",
		"[host]\na = {}\n", "[[host]]\n", "[header]\nx = [\"a\"]\n", "client = [[\"a\", \"b\"], \"c\"]\n", "[host.'x'.header]\nhost = \"x\"\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := fetch.HostsFile(b, "registry.test", "/dir")
		if err == nil && (len(got) == 0 || len(got) > 33) {
			t.Errorf("%q gives %d sources", b, len(got))
		}
		for _, line := range got {
			if strings.ContainsAny(line, "\x00\n\r") && !strings.Contains(line, "/dir/") && !strings.Contains(line, "=/") {
				t.Errorf("%q gives %q", b, line)
			}
		}
	})
}
