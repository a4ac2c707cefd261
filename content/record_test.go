package content_test

import (
	"errors"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func descriptor(s string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(s), Size: int64(len(s))}
}

func TestObjects(t *testing.T) {
	s := newStore(t)
	a, b := descriptor("a"), descriptor("bb")
	const repo = "example.com:5000/lib/redis"
	for _, desc := range []ocispec.Descriptor{a, b, a} {
		full := desc
		full.Annotations = map[string]string{"x": "y"}
		if err := s.SetObject(repo, full); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Object(repo, a.Digest); err != nil || !cmp.Equal(got, a) {
		t.Errorf("Object = %v, %v, want %v", got, err, a)
	}
	want := []ocispec.Descriptor{a, b}
	slices.SortFunc(want, func(x, y ocispec.Descriptor) int { return strings.Compare(string(x.Digest), string(y.Digest)) })
	if got, err := s.Objects(repo); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Objects = %v, %v, want %v", got, err, want)
	}
	digests := []digest.Digest{want[0].Digest, want[1].Digest}
	if err := os.WriteFile(filepath.Join(s.Dir(), "repos", repo, "_objects", "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ObjectDigests(repo); err != nil || !slices.Equal(got, digests) {
		t.Errorf("ObjectDigests = %v, %v, want %v", got, err, digests)
	}
	// A repository answers for itself alone.
	for _, other := range []string{"example.com:5000/lib", "example.com:5000/lib/redis/x", "example.com/lib/redis"} {
		if _, err := s.Object(other, a.Digest); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Object of %s = %v, want fs.ErrNotExist", other, err)
		}
		if got, err := s.Objects(other); err != nil || len(got) > 0 {
			t.Errorf("Objects(%s) = %v, %v, want none", other, got, err)
		}
		if got, err := s.ObjectDigests(other); err != nil || len(got) > 0 {
			t.Errorf("ObjectDigests(%s) = %v, %v, want none", other, got, err)
		}
	}
	a.MediaType = "application/x"
	if err := s.SetObject(repo, a); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Object(repo, a.Digest); err != nil || !cmp.Equal(got, a) {
		t.Errorf("Object = %v, %v, want %v", got, err, a)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

func TestTags(t *testing.T) {
	s := newStore(t)
	const repo = "example.com/redis"
	before := time.Now()
	want := make(map[string]ocispec.Descriptor)
	for _, tag := range []string{"latest", "7", "_x", "v1.2-a_b"} {
		for _, text := range []string{"old " + tag, "new " + tag} {
			want[tag] = descriptor(text)
			if err := s.SetTag(repo, tag, want[tag]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := s.Tags(repo); err != nil || !maps.EqualFunc(got, want, func(a, b ocispec.Descriptor) bool { return cmp.Equal(a, b) }) {
		t.Errorf("Tags = %v, %v, want %v", got, err, want)
	}
	got, when, err := s.Tag(repo, "7")
	if err != nil || !cmp.Equal(got, want["7"]) || when.Before(before.Add(-time.Millisecond)) || when.After(time.Now()) {
		t.Errorf("Tag = %v, %v, %v", got, when, err)
	}
	if _, _, err := s.Tag(repo, "8"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Tag of none = %v, want fs.ErrNotExist", err)
	}
	for _, tag := range []string{"", ".", "..", "-x", ".x", "a/b", "../x", "a\x00", "ä", strings.Repeat("x", 129), "a:b"} {
		_, _, err := s.Tag(repo, tag)
		if err == nil || errors.Is(err, iofs.ErrNotExist) || s.SetTag(repo, tag, want["7"]) == nil {
			t.Errorf("tag %q: %v, want it refused", tag, err)
		}
	}
}

func TestRepos(t *testing.T) {
	s := newStore(t)
	for _, repo := range []string{"b.com/x/y", "b.com/x", "a.com/z", "localhost:5000/q"} {
		if err := errors.Join(s.SetObject(repo, descriptor(repo)), s.SetTag(repo, "t", descriptor(repo))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "repos", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"": {"a.com", "b.com", "localhost:5000"}, "b.com": {"x"}, "b.com/x": {"y"}, "b.com/x/y": nil, "c.com": nil, "a.com/z/z/z": nil,
	} {
		if got, err := s.Repos(prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("Repos(%q) = %q, %v, want %q", prefix, got, err, want)
		}
	}
}

func TestHostileRepos(t *testing.T) {
	s := newStore(t)
	before := list(t, s.Dir())
	for _, repo := range []string{
		"", ".", "..", "/", "/etc", "a.com/..", "a.com/../..", "../x", "a.com//x", "a.com/", "a.com/x/../../../y", "a.com/\x00", "a.com/.x",
		"a.com/_objects", "a.com/x/_tags", "_tags", strings.Repeat("x", 300), strings.Repeat("x/", 3000) + "x", "a.com/./x",
	} {
		desc := descriptor("x")
		_, objErr := s.Object(repo, desc.Digest)
		_, objsErr := s.Objects(repo)
		_, _, tagErr := s.Tag(repo, "t")
		_, tagsErr := s.Tags(repo)
		errs := []error{s.SetObject(repo, desc), s.SetTag(repo, "t", desc), objErr, objsErr, tagErr, tagsErr}
		if repo != "" {
			_, err := s.Repos(repo)
			errs = append(errs, err)
		}
		for i, err := range errs {
			if err == nil || errors.Is(err, iofs.ErrNotExist) || len(err.Error()) > 1500 || strings.Contains(err.Error(), "\x00") {
				t.Errorf("call %d of repository %.50q = %.300v, want it refused", i, repo, err)
			}
		}
	}
	for _, desc := range []ocispec.Descriptor{
		{},
		{Digest: "sha256:../../x", Size: 1},
		{Digest: descriptor("x").Digest, Size: -1},
		{Digest: descriptor("x").Digest, MediaType: strings.Repeat("x", 1<<20)},
	} {
		if s.SetObject("a.com/x", desc) == nil || s.SetTag("a.com/x", "t", desc) == nil {
			t.Errorf("descriptor %.100v was recorded", desc)
		}
	}
	if after := list(t, s.Dir()); !slices.Equal(before, after) {
		t.Errorf("refusals have made of %q %q", before, after)
	}
}

func TestDamagedRecords(t *testing.T) {
	s := newStore(t)
	const repo = "a.com/x"
	desc := descriptor("x")
	dir := filepath.Join(s.Dir(), "repos", repo)
	for _, text := range []string{
		"", "{", "null", "[]", `{"digest":"sha256:abc","size":1}`, `{"digest":"` + string(desc.Digest) + `","size":-1}`,
		`{"digest":"` + string(desc.Digest) + `","size":1e99}`, `{"digest":"` + string(digest.FromString("y")) + `","size":1}`,
		strings.Repeat(" ", 1<<20), "\x00\x00\x00\x00",
	} {
		if err := errors.Join(s.SetObject(repo, desc), s.SetTag(repo, "t", desc), s.SetTag(repo, "u", desc)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"_objects/sha256-" + desc.Digest.Encoded(), "_tags/t"} {
			if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Object(repo, desc.Digest); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Object of %.60q = %v, want fs.ErrNotExist", text, err)
		}
		if got, err := s.Objects(repo); err != nil || len(got) > 0 {
			t.Errorf("Objects of %.60q = %v, %v, want none", text, got, err)
		}
		if _, _, err := s.Tag(repo, "t"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Tag of %.60q = %v, want fs.ErrNotExist", text, err)
		}
		if got, err := s.Tags(repo); err != nil || len(got) != 1 {
			t.Errorf("Tags of %.60q = %v, %v, want one", text, got, err)
		}
	}
}

func TestRecordsTogether(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				desc := descriptor(strings.Repeat("x", 1+len(t.Name())))
				if err := errors.Join(s.SetTag("a.com/x", "t", desc), s.SetObject("a.com/x", desc)); err != nil {
					t.Error(err)
				}
				if got, _, err := s.Tag("a.com/x", "t"); err != nil || !cmp.Equal(got, desc) {
					t.Errorf("Tag = %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}
