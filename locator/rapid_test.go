package locator_test

import (
	"testing"

	"pgregory.net/rapid"

	"distfs/locator"
)

// What the specifications' grammars generate is read for what it was made of.
func TestGrammarIsAccepted(t *testing.T) {
	host := rapid.SampledFrom([]string{"docker.io", "ghcr.io", "localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "[::1]", "local", "a-b.c"})
	component := rapid.StringMatching(`[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}`)
	tag := rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9._-]{0,40}`)
	dgst := rapid.StringMatching(`sha256:[0-9a-f]{64}`)
	rapid.Check(t, func(t *rapid.T) {
		h, path := host.Draw(t, "host"), component.Draw(t, "first")
		for _, c := range rapid.SliceOfN(component, 1, 4).Draw(t, "more") {
			path += "/" + c
		}
		s := h + "/" + path
		wantTag, wantDigest := "", ""
		if rapid.Bool().Draw(t, "tagged") {
			wantTag = tag.Draw(t, "tag")
			s += ":" + wantTag
		}
		if rapid.Bool().Draw(t, "digested") {
			wantDigest = dgst.Draw(t, "digest")
			s += "@" + wantDigest
		}
		ref, err := hosts().ParseReference(s)
		if wantTag == "" && wantDigest == "" {
			wantTag = "latest"
		}
		if err != nil || ref.Host != h || ref.Path != path || ref.Tag != wantTag || string(ref.Digest) != wantDigest {
			t.Fatalf("ParseReference(%q) = %+v, %v", s, ref, err)
		}
	})
}

// The mount takes a reference apart at its slashes; what it finds there, put
// together again, is what ParseReference reads.
func TestNamesAreReferences(t *testing.T) {
	component := rapid.StringMatching(`[a-z]{1,5}([._-][0-9]{1,3})?`)
	tag := rapid.StringMatching(`[a-zA-Z0-9_]{1,9}`)
	rapid.Check(t, func(t *rapid.T) {
		elem := component.Draw(t, "repo") + ":" + tag.Draw(t, "tag")
		name, err := locator.ParseName(elem)
		if err != nil {
			t.Fatalf("ParseName(%q): %v", elem, err)
		}
		ref, err := hosts().ParseReference("docker.io/" + elem)
		if err != nil {
			t.Fatalf("ParseReference(docker.io/%s): %v", elem, err)
		}
		loc := locator.Locator{Host: "docker.io", Path: name.Repo}.Canonical()
		if loc != ref.Locator || name.Tag != ref.Tag {
			t.Errorf("%q: the mount has %v and %q, the reference %v", elem, loc, name.Tag, ref)
		}
	})
}
