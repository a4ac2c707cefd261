package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"
	"distfs/locator"

	"github.com/google/go-cmp/cmp"
)

func TestSettings(t *testing.T) {
	const (
		user = "tag_ttl = \"2m\"\nfill_below = \"2MiB\"\ntimeout = \"2s\"\n[host.\"user.test\"]\nplain_http = true\n[host.\"both.test\"]\nlayouts = \"user\"\n"
		all  = "tag_ttl = \"1m\"\nplatform = \"linux/arm64\"\nallow_other = true\n[host.\"all.test\"]\n[host.\"both.test\"]\nlayouts = \"all\"\n"
	)
	tests := []struct {
		name      string
		args      string
		env       map[string]string
		user, all string
		flag      string
		want      string
	}{
		{name: "default", args: "mount m", flag: "tag-ttl", want: "1m0s"},
		{name: "file for all", args: "mount m", all: all, flag: "platform", want: "linux/arm64"},
		{name: "the user's file first", args: "mount m", user: user, all: all, flag: "tag-ttl", want: "2m0s"},
		{name: "key of the other file", args: "mount m", user: user, all: all, flag: "allow-other", want: "true"},
		{name: "environment over file", args: "mount m", env: map[string]string{"DISTFS_TAG_TTL": "3m"}, user: user, flag: "tag-ttl", want: "3m0s"},
		{name: "empty is not set", args: "mount m", env: map[string]string{"DISTFS_TAG_TTL": ""}, user: user, flag: "tag-ttl", want: "2m0s"},
		{name: "flag over environment", args: "mount --tag-ttl 4m m", env: map[string]string{"DISTFS_TAG_TTL": "3m"}, user: user, flag: "tag-ttl", want: "4m0s"},
		{name: "option over environment", args: "mount -o ro,tag_ttl=5m m", env: map[string]string{"DISTFS_TAG_TTL": "3m"}, flag: "tag-ttl", want: "5m0s"},
		{name: "flag over option", args: "mount -o tag_ttl=5m --tag-ttl 4m m", flag: "tag-ttl", want: "4m0s"},
		{name: "the last option", args: "mount -o tag_ttl=5m -o tag_ttl=6m m", flag: "tag-ttl", want: "6m0s"},
		{name: "option of the environment", args: "mount m", env: map[string]string{"DISTFS_OPTIONS": "tag_ttl=5m"}, user: user, flag: "tag-ttl", want: "5m0s"},
		{name: "variable over option of the environment", args: "mount m", env: map[string]string{"DISTFS_OPTIONS": "tag_ttl=5m", "DISTFS_TAG_TTL": "3m"}, flag: "tag-ttl", want: "3m0s"},
		{name: "option of the file", args: "mount -o nosuid m", user: "options = [\"suid\", \"dev\"]\n", flag: "dev", want: "true"},
		{name: "option against the file's", args: "mount -o nosuid m", user: "options = \"suid,dev\"\n", flag: "suid", want: "false"},
		{name: "noexec", args: "mount -o exec,noexec m", flag: "noexec", want: "true"},
		{name: "user with a name", args: "mount -o user=joe,X-mount.mkdir,offline m", flag: "offline", want: "true"},
		{name: "background", args: "mount -o background,log_file=l m", flag: "log-file", want: "l"},
		{name: "global after the command", args: "list --timeout 7s", user: user, flag: "timeout", want: "7s"},
		{name: "global before the command", args: "--timeout 7s list", user: user, flag: "timeout", want: "7s"},
		{name: "global by option", args: "mount -o timeout=7s,store=s m", flag: "store", want: "s"},
		{name: "truth", args: "mount m", env: map[string]string{"DISTFS_OFFLINE": "1"}, flag: "offline", want: "true"},
		{name: "truth as option", args: "mount -o offline m", flag: "offline", want: "true"},
		{name: "number", args: "mount m", user: "fill_below = 1048576\n", flag: "fill-below", want: "1MiB"},
		{name: "size", args: "mount -o max_size=5G m", env: map[string]string{"DISTFS_MAX_SIZE": "6G"}, user: "max_size = \"7G\"\n", flag: "max-size", want: "5GiB"},
		{name: "size of the environment", args: "prune", env: map[string]string{"DISTFS_MAX_SIZE": "6G"}, user: "max_size = \"7G\"\n", flag: "max-size", want: "6GiB"},
		{name: "size of the file", args: "mount m", user: "max_size = \"7G\"\n", flag: "max-size", want: "7GiB"},
		{name: "all", args: "mount --fill-below all m", user: user, flag: "fill-below", want: "all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			etc := layOut(t, tt.user, tt.all)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			flags, _, err := distfs.Settings(etc, strings.Fields(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			if got := flags[tt.flag]; got != tt.want {
				t.Errorf("--%s = %s, want %s", tt.flag, got, tt.want)
			}
		})
	}

	t.Run("hosts", func(t *testing.T) {
		etc := layOut(t, user, all)
		_, hosts, err := distfs.Settings(etc, []string{"list"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hosts["both.test"].Layouts, filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "distfs", "user"); got != want {
			t.Errorf("layouts of both.test = %s, want %s", got, want)
		}
		if _, ok := hosts["all.test"]; !ok || !hosts["user.test"].PlainHTTP || len(hosts) != 3 {
			t.Errorf("hosts = %v, want those of both files", hosts)
		}
	})
}

func TestHostSettings(t *testing.T) {
	etc := layOut(t, `
[host."a.test"]
mirrors = ["m.test", "http://n.test:5000"]
ca = "ca.pem"
client = [["c.pem", "k.pem"], "/both.pem"]
[host."b.test"]
ca = ["/x.pem", "y.pem"]
`, "")
	_, hosts, err := distfs.Settings(etc, []string{"list"})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "distfs")
	want := locator.Hosts{
		"a.test": {
			Mirrors: []string{"m.test", "http://n.test:5000"},
			CA:      []string{dir + "/ca.pem"},
			Client:  []locator.KeyPair{{Cert: dir + "/c.pem", Key: dir + "/k.pem"}, {Cert: "/both.pem"}},
		},
		"b.test": {CA: []string{"/x.pem", dir + "/y.pem"}},
	}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// layOut writes the user's configuration and that of all users, and returns the
// folder of the latter.
func layOut(t *testing.T, user, all string) (etc string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "user"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	for sub, text := range map[string]string{"user/distfs": user, "all": all} {
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, sub, "config.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "all")
}

func TestSettingsRefused(t *testing.T) {
	tests := []struct{ args, user, want string }{
		{"list", "tag_ttl = \"1m\"\n\nfrob = 1\n", `config.toml:3: unknown key "frob"`},
		{"list", "[host.\"a.test\"]\nfrob = 1\n", `config.toml:2: unknown key "host.a.test.frob"`},
		{"list", "config = \"x\"\n", `config.toml:1: unknown key "config"`},
		{"list", "tag_ttl = 5\n", `config.toml:1: tag_ttl: "5": `},
		{"list", "\n# a comment\ntimeout = [\"5s\"]\n", `config.toml:3: timeout: no value for it: [5s]`},
		{"list", "store = \"\"\n", `config.toml:1: store: no value for it`},
		{"list", "options = [1.5]\n", `config.toml:1: options: no value for it`},
		{"list", "timeout = \"1s\"\ntimeout = \"2s\"\n", `config.toml:2: `},
		{"list", "[host.\"a.test\"]\nlayouts = 1\n", `config.toml:2: host.a.test.layouts: it wants another kind of value`},
		{"list", "host = 3\n", `config.toml:1: host: it wants another kind of value`},
		{"list", "[host.\"a.test\"]\nlayouts = \"x\"\nplain_http = true\n", `"a.test"`},
		{"list", "[host.\"a.test\"]\nmirrors = \"m.test\"\n", `config.toml:2: `},
		{"list", "[host.\"a.test\"]\nmirrors = [\"m.test\", \"a b\"]\n", `config.toml: "a.test": configured host: mirror "a b" has " "`},
		{"list", "[host.\"a.test\"]\nca = 1\n", `config.toml: host."a.test".ca: no file`},
		{"list", "[host.\"a.test\"]\nclient = [[\"a\"]]\n", `config.toml: host."a.test".client: no file`},
		{"list", "[host.\"a.test\"]\nskip_verify = true\n", `config.toml:2: unknown key "host.a.test.skip_verify"`},
		{"list", "certs_dir = \"nowhere\"\n", `nowhere: no such file`},
		{"list --certs-dir /dev/null", "", `--certs-dir: `},
		{"mount m", "options = \"rw\"\n", `config.toml: options: rw: a mount is read-only`},
	}
	for _, tt := range tests {
		_, _, err := distfs.Settings(layOut(t, tt.user, ""), strings.Fields(tt.args))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Settings(%s) with %q = %v, want %s", tt.args, tt.user, err, tt.want)
		}
	}
}
