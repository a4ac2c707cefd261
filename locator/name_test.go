package locator_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"distfs/locator"
)

var twinA = locator.Twin(sha256a)

func TestParseName(t *testing.T) {
	long := strings.Repeat("a", 100)
	for in, want := range map[string]locator.Name{
		"redis":                                {Repo: "redis"},
		"a.b_c__d---e":                         {Repo: "a.b_c__d---e"},
		"0":                                    {Repo: "0"},
		"sha256":                               {Repo: "sha256"},
		hex64:                                  {Repo: hex64},
		sha256a:                                {Kind: locator.Object, Digest: sha256a},
		"sha512:" + hex64 + hex64:              {Kind: locator.Object, Digest: "sha512:" + hex64 + hex64},
		"sha384:" + hex64 + hex64[:32]:         {Kind: locator.Object, Digest: digest.Digest("sha384:" + hex64 + hex64[:32])},
		"redis:7":                              {Kind: locator.Tag, Repo: "redis", Tag: "7"},
		"redis:" + hex64:                       {Kind: locator.Tag, Repo: "redis", Tag: hex64},
		"md5:abc":                              {Kind: locator.Tag, Repo: "md5", Tag: "abc"},
		"redis:_A.b-":                          {Kind: locator.Tag, Repo: "redis", Tag: "_A.b-"},
		"redis@" + sha256a:                     {Kind: locator.Image, Repo: "redis", Digest: sha256a},
		"redis:7@" + sha256a:                   {Kind: locator.Image, Repo: "redis", Tag: "7", Digest: sha256a},
		"sha256@" + sha256a:                    {Kind: locator.Image, Repo: "sha256", Digest: sha256a},
		long + ":" + long[:82] + "@" + sha256a: {Kind: locator.Image, Repo: long, Tag: long[:82], Digest: sha256a},
		"redis=7":                              {Kind: locator.Tag, Repo: "redis", Tag: "7", Twin: true},
		twinA:                                  {Kind: locator.Object, Digest: sha256a, Twin: true},
		"redis@" + twinA:                       {Kind: locator.Image, Repo: "redis", Digest: sha256a, Twin: true},
		"redis=7@" + twinA:                     {Kind: locator.Image, Repo: "redis", Tag: "7", Digest: sha256a, Twin: true},
	} {
		got, err := locator.ParseName(in)
		if err != nil || got != want {
			t.Errorf("ParseName(%q) = %+v, %v, want %+v", in, got, err, want)
		}
		if got.String() != in {
			t.Errorf("ParseName(%q).String() = %q", in, got)
		}
	}
}

// TestParseNameMixed reads a name in which `=` stands for some of the colons.
func TestParseNameMixed(t *testing.T) {
	for _, in := range []string{"redis:7@" + twinA, "redis=7@" + sha256a} {
		got, err := locator.ParseName(in)
		if err != nil || got.String() != "redis=7@"+twinA || got.Plain() != "redis:7@"+sha256a {
			t.Errorf("ParseName(%q) = %+v, %v, want the twin of redis:7@%s", in, got, err, sha256a)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, c := range []struct{ in, part, why string }{
		{"", "name", "is empty"},
		{".", "name", "ends in"},
		{"..", "name", "ends in"},
		{".git", "name", `begins with "."`},
		{".Trash-0", "name", `upper-case`},
		{".tags", "name", `begins with "."`},
		{"Makefile", "name", `upper-case letter "M"`},
		{"_objects", "name", `begins with "_"`},
		{"a/b", "name", `has "/"`},
		{"a\x00", "name", `has "\x00"`},
		{"a\xff\xfe", "name", `has "\xff"`},
		{"a~", "name", `has "~"`},
		{strings.Repeat("a", 256), "name", "256 bytes long"},
		{strings.Repeat("a", 100) + ":" + strings.Repeat("a", 83) + "@" + sha256a, "name", "256 bytes long"},
		{":", "name", "is empty"},
		{":7", "name", "is empty"},
		{"@" + sha256a, "name", "is empty"},
		{"redis:", "tag", "is empty"},
		{"redis:-", "tag", "begins with"},
		{"redis:a:b", "tag", `has ":"`},
		{"redis@", "digest", "is empty"},
		{"redis@7", "digest", "has no colon"},
		{"redis:@" + sha256a, "tag", "is empty"},
		{"redis@sha256:abc", "digest", "has 3 digits"},
		{"sha256:", "digest", "has 0 digits"},
		{"sha256:abc", "digest", "has 3 digits"},
		{"sha512:" + hex64, "digest", "sha512 has 128"},
		{"sha256:" + strings.ToUpper(hex64), "digest", "upper-case digit"},
		{"sha256:" + hex64[:63] + "g", "digest", `has "g"`},
		{"=", "name", "is empty"},
		{"redis=", "tag", "is empty"},
		{"redis=a=b", "tag", `has ":"`},
		{"sha256=abc", "digest", "has 3 digits"},
		{".git=a", "name", `begins with "."`},
	} {
		_, err := locator.ParseName(c.in)
		wantError(t, "ParseName", c.in, err, c.part, c.why)
	}
}

func TestCheck(t *testing.T) {
	for _, path := range []string{"a", "a/b", "library/redis", strings.Repeat("a", 255)} {
		if err := locator.CheckPath(path); err != nil {
			t.Errorf("CheckPath(%q) = %v", path, err)
		}
	}
	for _, path := range []string{"", "a/", "/a", "a/../b", "A", "a:b", strings.Repeat("a", 256)} {
		wantError(t, "CheckPath", path, locator.CheckPath(path), "path", "")
	}
	for _, tag := range []string{"a", "_", "7.2-alpine", strings.Repeat("a", 128)} {
		if err := locator.CheckTag(tag); err != nil {
			t.Errorf("CheckTag(%q) = %v", tag, err)
		}
	}
	for _, tag := range []string{"", ".", "..", "a/b", "-", "a b", strings.Repeat("a", 129)} {
		wantError(t, "CheckTag", tag, locator.CheckTag(tag), "tag", "")
	}
}

func TestParseObject(t *testing.T) {
	type object struct{ tag, dgst string }
	for in, want := range map[string]object{
		"7":            {"7", ""},
		"latest":       {"latest", ""},
		hex64:          {hex64, ""},
		"sha256":       {"sha256", ""},
		"7@" + sha256a: {"7", sha256a},
		"@" + sha256a:  {"", sha256a},
		sha256a:        {"", sha256a},
	} {
		tag, dgst, err := locator.ParseObject(in)
		if got := (object{tag, string(dgst)}); err != nil || got != want {
			t.Errorf("ParseObject(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, c := range []struct{ in, part, why string }{
		{"", "object", "is empty"},
		{"@", "digest", "is empty"},
		{"7@", "digest", "is empty"},
		{":", "digest", `algorithm ""`},
		{"a b", "tag", `has " "`},
		{"/etc/passwd", "tag", `has "/"`},
		{"-x", "tag", `begins with "-"`},
		{"sha256:abc", "digest", "has 3 digits"},
		{"a/b:7", "digest", `algorithm "a/b"`},
		{":7@" + sha256a, "tag", `has ":"`},
		{sha256a + "@" + sha256a, "tag", `has ":"`},
	} {
		_, _, err := locator.ParseObject(c.in)
		wantError(t, "ParseObject", c.in, err, c.part, c.why)
	}
}

func TestParseDigest(t *testing.T) {
	for _, s := range []string{sha256a, "sha384:" + hex64 + hex64[:32], "sha512:" + hex64 + hex64} {
		dgst, err := locator.ParseDigest(s)
		if err != nil || string(dgst) != s {
			t.Errorf("ParseDigest(%q) = %q, %v", s, dgst, err)
		}
		// What was accepted can be hashed: its algorithm is linked in.
		if err := dgst.Validate(); err != nil || !dgst.Algorithm().Available() {
			t.Errorf("%s.Validate() = %v", dgst, err)
		}
	}
	for _, s := range []string{"", ":", "sha256", hex64, "sha256:" + hex64 + "0", "sha-256:" + hex64, " " + sha256a} {
		_, err := locator.ParseDigest(s)
		wantError(t, "ParseDigest", s, err, "digest", "")
	}
}
