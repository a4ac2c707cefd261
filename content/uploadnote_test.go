package content_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

// TestUploadNote is kept over the end of a store's use, and is one's at a time.
func TestUploadNote(t *testing.T) {
	dir := t.TempDir()
	open := func() *content.Store {
		t.Helper()
		s, err := content.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	const repo = "ghcr.io/org/app"
	a, b := digest.FromString("a"), digest.FromString("b")
	note := func(s *content.Store, repo string, dgst digest.Digest, want string) *content.UploadNote {
		t.Helper()
		n, ok, err := s.NoteUpload(repo, dgst)
		if err != nil || !ok || n.Place() != want {
			t.Fatalf("NoteUpload(%s, %s) = %v, %v, want it to be of %q", repo, dgst, ok, err, want)
		}
		return n
	}
	one, other := open(), open()
	n := note(one, repo, a, "")
	if err := n.Set("https://ghcr.io/v2/x"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*content.Store{one, other} {
		if n, ok, err := s.NoteUpload(repo, a); err != nil || ok {
			t.Errorf("NoteUpload of what another has = %v, %v, %v", n, ok, err)
		}
	}
	note(other, repo, b, "").Close()
	note(other, repo+"/b", a, "").Close()
	n.Close()
	n = note(other, repo, a, "https://ghcr.io/v2/x")
	if err := n.Set(strings.Repeat("x", 1<<20)); err == nil {
		t.Error("Set takes a MiB")
	}
	if err := n.Set(""); err != nil || n.Place() != "" {
		t.Errorf("Set = %v; it is of %q", err, n.Place())
	}
	n.Close()
	if names, err := one.Repos("ghcr.io/org/app"); err != nil || len(names) > 0 {
		t.Errorf("Repos = %q, %v", names, err)
	}
	if _, _, err := one.NoteUpload("../x", a); err == nil {
		t.Error("NoteUpload leads out of the store")
	}
}

// TestUploadNotesEnd: who opens a store removes the notes that are older than any session, but for one whose upload goes on.
func TestUploadNotesEnd(t *testing.T) {
	s := newStore(t)
	const repo = "ghcr.io/org/app"
	names := []string{"young", "old", "held"}
	for _, name := range names {
		n, ok, err := s.NoteUpload(repo, digest.FromString(name))
		if err != nil || !ok {
			t.Fatalf("NoteUpload = %v, %v", ok, err)
		}
		if err := n.Set(name); err != nil {
			t.Fatal(err)
		}
		if name == "held" {
			defer n.Close()
		} else {
			n.Close()
		}
	}
	files, err := filepath.Glob(filepath.Join(s.Dir(), "uploads", "*"))
	if err != nil || len(files) != len(names) {
		t.Fatalf("uploads has %q, %v, want %d notes", files, err, len(names))
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "young") {
			then := time.Now().Add(-8 * 24 * time.Hour)
			if err := os.Chtimes(file, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := open(t, s.Dir())
	for name, want := range map[string]string{"young": "young", "old": ""} {
		n, ok, err := other.NoteUpload(repo, digest.FromString(name))
		if err != nil || !ok || n.Place() != want {
			t.Errorf("NoteUpload(%s) = %v, %v, want it to be of %q", name, ok, err, want)
			continue
		}
		n.Close()
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), "uploads", "*")); err != nil || len(left) != 2 {
		t.Errorf("uploads has %q, %v, want the young one and the one that is held", left, err)
	}
}
