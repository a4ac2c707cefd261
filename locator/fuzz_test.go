package locator_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"distfs/locator"

	"github.com/google/go-cmp/cmp"
)

// The grammars as the specifications write them, to compare with.
const (
	specComponent = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	specTag       = `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
	specDigest    = `(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})`
	specLabel     = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`
	specHost      = `(?:` + specLabel + `(?:\.` + specLabel + `)*|\[[a-fA-F0-9:.]+\])(?::[0-9]+)?`
)

func whole(expr string) *regexp.Regexp {
	return regexp.MustCompile(`\A(?:` + expr + `)\z`)
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "a..b", "a__b", "a___b", "a--b", "-a", "a-", "a//b", "A", "a\n", "../a"} {
		f.Add(s)
	}
	spec := whole(specComponent + `(?:/` + specComponent + `)*`)
	f.Fuzz(func(t *testing.T, s string) {
		err := locator.CheckPath(s)
		if want := len(s) <= 255 && spec.MatchString(s); (err == nil) != want {
			t.Errorf("CheckPath(%q) = %v, the specification says %t", s, err, want)
		}
		if err != nil {
			wantOneLine(t, err)
		}
	})
}

func FuzzCheckTag(f *testing.F) {
	for _, s := range []string{"", "a", "_", ".a", "-a", "a.b-c_d", "7.2", "a/b", "é", strings.Repeat("a", 129)} {
		f.Add(s)
	}
	spec := whole(specTag)
	f.Fuzz(func(t *testing.T, s string) {
		err := locator.CheckTag(s)
		if want := spec.MatchString(s); (err == nil) != want {
			t.Errorf("CheckTag(%q) = %v, the specification says %t", s, err, want)
		}
		if err != nil {
			wantOneLine(t, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"", "..", ".git", "redis", "redis:7", "redis@" + sha256a, "redis:7@" + sha256a, sha256a,
		"sha256:7", "a:b:c", "a@b@c", "redis=7", "a\x00", strings.Repeat("a", 256), twinA, "redis=7@" + twinA, "redis=7@" + sha256a, "=",
	} {
		f.Add(s)
	}
	spec := whole(specDigest + `|` + specComponent + `(?::` + specTag + `)?(?:@` + specDigest + `)?`)
	reserved := regexp.MustCompile(`\Asha(256|384|512):[^@]*\z`)
	object := whole(specDigest)
	f.Fuzz(func(t *testing.T, s string) {
		name, err := locator.ParseName(s)
		plain := strings.ReplaceAll(s, "=", ":")
		want := len(s) <= 255 && spec.MatchString(plain) && (!reserved.MatchString(plain) || object.MatchString(plain))
		if (err == nil) != want {
			t.Fatalf("ParseName(%q) = %+v, %v, the specification says %t", s, name, err, want)
		}
		if err != nil {
			wantOneLine(t, err)
			return
		}
		// A name with an = is a twin, and no other name is.
		if name.Twin != (plain != s) || name.Plain() != plain || strings.Contains(name.Plain(), "=") {
			t.Errorf("ParseName(%q) = %+v, Plain() = %q", s, name, name.Plain())
		}
		if want := name.String(); name.Twin && want != strings.ReplaceAll(s, ":", "=") || !name.Twin && want != s {
			t.Errorf("ParseName(%q).String() = %q", s, name)
		}
		if again, err := locator.ParseName(name.String()); err != nil || again != name {
			t.Errorf("ParseName(%q) = %+v, which reads back as %+v, %v", s, name, again, err)
		}
		kind := locator.Component
		switch {
		case name.Repo == "":
			kind = locator.Object
		case name.Digest != "":
			kind = locator.Image
		case name.Tag != "":
			kind = locator.Tag
		}
		if name.Kind != kind {
			t.Errorf("ParseName(%q).Kind = %d, want %d", s, name.Kind, kind)
		}
	})
}

func FuzzIsHost(f *testing.F) {
	for _, s := range []string{
		"", "..", ".git", "a.b", "localhost", "a:80", "[::1]:80", "[::1", "1.2.3.4", "1.2.3", "local", "A.B", "a.b:0",
	} {
		f.Add(s)
	}
	spec := whole(specHost)
	f.Fuzz(func(t *testing.T, s string) {
		isHost := hosts().IsHost(s)
		canonical := locator.CanonicalHost(s)
		if !isHost {
			return
		}
		if !spec.MatchString(s) || len(s) > 255 {
			t.Errorf("IsHost(%q), the specification says no", s)
		}
		if strings.HasPrefix(s, ".") || strings.ContainsAny(s, "/\x00@=\\") {
			t.Errorf("IsHost(%q), which is no safe name of a directory", s)
		}
		if !hosts().IsHost(canonical) || locator.CanonicalHost(canonical) != canonical {
			t.Errorf("CanonicalHost(%q) = %q, which is not canonical", s, canonical)
		}
		if a, b := hosts().Remote(s), hosts().Remote(canonical); !cmp.Equal(a, b) {
			t.Errorf("Remote(%q) = %+v, Remote(%q) = %+v", s, a, canonical, b)
		}
	})
}

func FuzzMirror(f *testing.F) {
	for _, s := range []string{"", "m.test", "https://m.test/v2/x", "http://[::1]:5000/", "m.test/a b", "m.test/%2e%2e/x", "m.test//", "https://m.test?x", "dir"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := locator.Hosts{"a.test": {Mirrors: []string{s}}, "dir": {Layouts: "/srv"}}
		if h.Validate() != nil {
			return
		}
		m := h.Remote("a.test").Mirrors[0]
		if m.Kind == locator.Layouts {
			return
		}
		root := m.Root
		if root == "" {
			root = "/v2"
		}
		url := "https://" + m.Addr + root + "/a/blobs/x"
		u, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatalf("mirror %q gives %q: %v", s, url, err)
		}
		if u.URL.Host != m.Addr || u.URL.User != nil || u.URL.RawQuery != "" || !strings.HasSuffix(u.URL.Path, "/a/blobs/x") || strings.Contains(u.URL.EscapedPath(), "/../") {
			t.Errorf("mirror %q gives %q", s, url)
		}
	})
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"", "..", "=", "localhost", "localhost=5000", "[==1]=80", "a=b", "a.b", "local", "local=80", "docker.io=443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, ok := hosts().ParseHost(s)
		if plain := strings.ReplaceAll(s, "=", ":"); host != plain || ok != hosts().IsHost(plain) {
			t.Errorf("ParseHost(%q) = %q, %t, IsHost(%q) = %t", s, host, ok, plain, hosts().IsHost(plain))
		}
		if strings.Contains(s, "=") && hosts().IsHost(s) {
			t.Errorf("IsHost(%q), which is a twin", s)
		}
		if twin, twinOK := hosts().ParseHost(locator.Twin(s)); ok && (!twinOK || twin != host) {
			t.Errorf("ParseHost(%q) = %q, %t, of %q it is %q", locator.Twin(s), twin, twinOK, s, host)
		}
	})
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{
		"", "redis", "redis:7", "docker.io/redis", "localhost:5000/a:b@" + sha256a, "[::1]:5000/a", "local/a", "Foo/a",
		"https://a.b/c", "a.b/c:", "a.b/c@", sha256a, hex64, "a//b", "index.docker.io/library/a", "a:b/c",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := hosts().ParseReference(s)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		if ref.Tag == "" && ref.Digest == "" {
			t.Errorf("ParseReference(%q) = %+v names no object", s, ref)
		}
		again, err := hosts().ParseReference(ref.String())
		if err != nil || again != ref {
			t.Errorf("ParseReference(%q) = %v, which reads back as %v, %v", s, ref, again, err)
		}
		if ref.Canonical() != ref.Locator || locator.CheckPath(ref.Path) != nil || !hosts().IsHost(ref.Host) {
			t.Errorf("ParseReference(%q) = %v, which is not canonical", s, ref)
		}
		// A locator is a reference without an object: both readers agree.
		loc, err := hosts().ParseLocator(ref.Locator.String())
		if err != nil || loc != ref.Locator {
			t.Errorf("ParseLocator(%q) = %v, %v", ref.Locator, loc, err)
		}
		if strings.ContainsAny(s, "@") {
			if _, err := hosts().ParseLocator(s); err == nil {
				t.Errorf("ParseLocator(%q) took a digest", s)
			}
		}
	})
}

func FuzzParseObject(f *testing.F) {
	for _, s := range []string{"", "7", "@" + sha256a, "7@" + sha256a, sha256a, "@", ":", "a:b", "sha256:abc"} {
		f.Add(s)
	}
	spec := whole(`(?:` + specTag + `)?@` + specDigest + `|` + specTag + `|` + specDigest)
	f.Fuzz(func(t *testing.T, s string) {
		tag, dgst, err := locator.ParseObject(s)
		if want := spec.MatchString(s); (err == nil) != want {
			t.Fatalf("ParseObject(%q) = %q, %q, %v, the specification says %t", s, tag, dgst, err, want)
		}
		if err != nil {
			wantOneLine(t, err)
			return
		}
		if tag == "" && dgst == "" || dgst != "" && dgst.Validate() != nil {
			t.Errorf("ParseObject(%q) = %q, %q", s, tag, dgst)
		}
	})
}
