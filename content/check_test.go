package content_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCheckBlob(t *testing.T) {
	s := newStore(t)
	b := randomBytes(1, 3*mib+5)
	dgst := named(t, s, "b", b).Digest
	path := filepath.Join(s.Dir(), "blobs", "sha256", dgst.Encoded())
	then := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
	if aside, err := s.CheckBlob(t.Context(), dgst); err != nil || aside != "" {
		t.Fatalf("CheckBlob = %q, %v, want all well", aside, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if got := time.Unix(st.Atim.Unix()); !got.Equal(then) {
		t.Errorf("last use = %v, want %v: to check is no use", got, then)
	}
	b[2*mib] ^= 1
	rewrite(t, path, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CheckBlob(ctx, dgst); !errors.Is(err, context.Canceled) {
		t.Errorf("CheckBlob(canceled) = %v, want context.Canceled", err)
	}
	aside, err := s.CheckBlob(t.Context(), dgst)
	wrong, ok := errors.AsType[*content.MismatchError](err)
	if !ok || wrong.Want != dgst || wrong.Got != digest.FromBytes(b) {
		t.Errorf("CheckBlob(bad) = %v, want a mismatch of %s", err, digest.FromBytes(b))
	}
	if got, err := os.ReadFile(aside); err != nil || digest.FromBytes(got) != digest.FromBytes(b) {
		t.Errorf("%s: %v, want the bad bytes", aside, err)
	}
	if _, err := s.CheckBlob(t.Context(), dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("CheckBlob again = %v, want ErrNotExist", err)
	}
}

// What the disk can't read is out of the way, too; what fails otherwise stays.
func TestCheckBlobUnreadable(t *testing.T) {
	s := newStore(t)
	dgst := named(t, s, "b", []byte("right")).Digest
	failing := func(errno syscall.Errno) func(context.Context, *os.File, digest.Algorithm) (digest.Digest, error) {
		return func(_ context.Context, f *os.File, _ digest.Algorithm) (digest.Digest, error) {
			return "", &os.PathError{Op: "read", Path: f.Name(), Err: errno}
		}
	}
	if aside, err := s.CheckBlobBy(t.Context(), dgst, failing(syscall.ENOMEM)); !errors.Is(err, syscall.ENOMEM) || aside != "" {
		t.Errorf("CheckBlob without memory = %q, %v, want ENOMEM", aside, err)
	}
	if _, err := s.Stat(dgst); err != nil {
		t.Errorf("Stat = %v, want the blob where it was", err)
	}
	aside, err := s.CheckBlobBy(t.Context(), dgst, failing(syscall.EIO))
	if !errors.Is(err, syscall.EIO) || aside == "" {
		t.Errorf("CheckBlob of what can't be read = %q, %v, want EIO, moved aside", aside, err)
	}
	wantNoBlob(t, s, dgst)
	if all, err := s.Aside(); err != nil || !slices.Equal(all, []digest.Digest{dgst}) {
		t.Errorf("Aside = %v, %v, want %s", all, err, dgst)
	}
}

// rewrite changes what a read-only file holds.
func rewrite(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600), os.Chmod(path, 0o444)); err != nil {
		tb.Fatal(err)
	}
}

func TestAnswered(t *testing.T) {
	s := newStore(t)
	dgst := digest.FromString("a")
	for _, repo := range []string{"example.com/b/c", "example.com/b", "other.example/x"} {
		if err := s.SetObject(repo, ocispec.Descriptor{MediaType: "application/x", Digest: dgst, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetTag("example.com/none", "1", ocispec.Descriptor{MediaType: "application/x", Digest: dgst, Size: 1}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Answered(dgst)
	if want := "example.com/b example.com/b/c other.example/x"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("Answered = %v, %v, want %s", got, err, want)
	}
	if got, err := s.Answered(digest.FromString("b")); err != nil || !slices.Equal(got, nil) {
		t.Errorf("Answered(unknown) = %v, %v, want none", got, err)
	}
}

// What was moved aside is listed until it is dropped.
func TestAside(t *testing.T) {
	s := newStore(t)
	if all, err := s.Aside(); err != nil || len(all) > 0 {
		t.Errorf("Aside = %v, %v, want none", all, err)
	}
	dgst := named(t, s, "b", []byte("right")).Digest
	rewrite(t, filepath.Join(s.Dir(), "blobs", "sha256", dgst.Encoded()), []byte("wrong"))
	if _, err := s.CheckBlob(t.Context(), dgst); !errors.Is(err, syscall.EIO) {
		t.Fatalf("CheckBlob = %v, want a mismatch", err)
	}
	if all, err := s.Aside(); err != nil || !slices.Equal(all, []digest.Digest{dgst}) {
		t.Errorf("Aside = %v, %v, want %s", all, err, dgst)
	}
	if err := s.DropAside(dgst); err != nil {
		t.Error(err)
	}
	if err := s.DropAside(dgst); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("DropAside again = %v, want ErrNotExist", err)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "bad"))
}

func TestCheckRecords(t *testing.T) {
	s := newStore(t)
	desc := named(t, s, "b", []byte("right"))
	other := ocispec.Descriptor{MediaType: "application/x", Digest: digest.FromString("other"), Size: 5}
	for _, err := range []error{
		s.SetObject("example.com/a", desc), s.SetObject("example.com/a", other), s.SetTag("example.com/a", "1", desc), s.SetTag("example.com/a/b", "2", other),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(drop bool) (bad []string) {
		t.Helper()
		err := s.CheckRecords(t.Context(), drop, func(path string, why error) error {
			bad = append(bad, path+": "+why.Error())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return bad
	}
	if bad := check(false); bad != nil {
		t.Errorf("CheckRecords = %q, want all well", bad)
	}
	at := func(path string) string { return filepath.Join(s.Dir(), "repos/example.com", path) }
	wrong := desc
	wrong.Size++
	if err := errors.Join(
		s.SetObject("example.com/c", wrong),
		os.Rename(at("a/_objects/sha256-"+other.Digest.Encoded()), at("a/_objects/sha256-"+digest.FromString("third").Encoded())),
		os.WriteFile(at("a/_tags/1"), []byte(`{"digest":`), 0o600),
		os.WriteFile(at("a/b/_tags/2"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a/_objects/sha256-" + digest.FromString("third").Encoded() + ": damaged: it is of " + string(other.Digest),
		"a/_tags/1: damaged",
		"a/b/_tags/2: damaged",
		"c/_objects/sha256-" + desc.Digest.Encoded() + ": it says 6 bytes, the blob has 5",
	}
	for _, drop := range []bool{false, true} {
		bad := check(drop)
		for i := range bad {
			bad[i] = strings.TrimPrefix(bad[i], "repos/example.com/")
		}
		if !slices.Equal(bad, want) {
			t.Errorf("CheckRecords(%t) = %q, want %q", drop, bad, want)
		}
	}
	if bad := check(false); bad != nil {
		t.Errorf("CheckRecords when all bad were dropped = %q", bad)
	}
	if _, err := s.Object("example.com/a", desc.Digest); err != nil {
		t.Errorf("a good record went: %v", err)
	}
}
