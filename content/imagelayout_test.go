package content_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// enter puts b into the layout in dir, and gives it name.
func enter(t *testing.T, dir, name string, b []byte) (already bool) {
	t.Helper()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, desc := l.Into(name), describe(ocispec.MediaTypeImageManifest, b)
	has, err := w.Has(t.Context(), desc)
	if err == nil && !has {
		err = w.PutManifest(t.Context(), desc, b)
	}
	if err == nil {
		already, err = w.Name(t.Context(), desc, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return already
}

// entries are the names and digests in a layout's index.json, in their order.
func entries(t *testing.T, dir string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		all = append(all, m.Annotations[ocispec.AnnotationRefName]+" "+m.Digest.Encoded()[:8])
	}
	return all
}

func TestLayoutIsMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if enter(t, dir, "one", []byte("1")) {
		t.Error("it was there already")
	}
	if !enter(t, dir, "one", []byte("1")) {
		t.Error("the second time it was not there already")
	}
	enter(t, dir, "two", []byte("2"))
	enter(t, dir, "one", []byte("3")) // in the place of the first
	enter(t, dir, "", []byte("4"))
	enter(t, dir, "", []byte("4"))
	short := func(s string) string { return digest.FromString(s).Encoded()[:8] }
	want := []string{"two " + short("2"), "one " + short("3"), " " + short("4")}
	if got := entries(t, dir); !slices.Equal(got, want) {
		t.Errorf("index.json has %q, want %q", got, want)
	}
	var names []string
	if err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); err == nil && strings.Count(rel, "/") < 2 {
			names = append(names, rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{".", "blobs", "blobs/sha256", "index.json", "oci-layout"}; !slices.Equal(names, want) {
		t.Errorf("there is %q, want %q", names, want)
	}
}

// TestLayoutKeeps what others wrote, fields and entries that it does not know.
func TestLayoutKeeps(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	write(t, filepath.Join(dir, "index.json"), `{"schemaVersion":2,"x":{"y":[1]},"manifests":[{"z":1,"digest":"nonsense"},7]}`)
	write(t, filepath.Join(dir, "more"), "others'")
	enter(t, dir, "one", []byte("1"))
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		X         json.RawMessage   `json:"x"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil || index.X == nil || len(index.Manifests) != 3 || !bytes.Contains(index.Manifests[0], []byte(`"z"`)) {
		t.Errorf("index.json is %s", b)
	}
}

func write(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLayoutTogether keeps the entries of all who write at the same time.
func TestLayoutTogether(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() { enter(t, dir, fmt.Sprint("name ", i), []byte{byte(i / 2)}) })
	}
	wg.Wait()
	if got := entries(t, dir); len(got) != 16 {
		t.Errorf("index.json has %d entries: %q", len(got), got)
	}
}

func TestLayoutRefuses(t *testing.T) {
	store := t.TempDir()
	s, err := content.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	other := t.TempDir()
	write(t, filepath.Join(other, "letter"), "dear")
	newer := t.TempDir()
	write(t, filepath.Join(newer, "oci-layout"), `{"imageLayoutVersion":"2.0.0"}`)
	for dir, says := range map[string]string{store: "import", other: "no oci-layout", newer: `version "2.0.0"`} {
		if l, err := content.CreateLayout(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("CreateLayout(%s) = %v, %v, want %q", dir, l, err, says)
		}
	}
	if l, err := content.OpenLayout(filepath.Join(other, "absent")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("OpenLayout of what is absent = %v, %v", l, err)
	}
	if l, err := content.OpenLayout(store); err != nil { // which is one, to read
		t.Error(err)
	} else {
		l.Close()
	}
}

// TestLayoutChecks what it writes: nothing is left of what is wrong.
func TestLayoutChecks(t *testing.T) {
	dir := t.TempDir()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	right := bytes.Repeat([]byte("right"), 1<<20)
	desc := describe(ocispec.MediaTypeImageLayer, right)
	for _, b := range [][]byte{bytes.Repeat([]byte("wrong"), 1<<20), right[1:], append(bytes.Clone(right), 'x')} {
		if _, err := l.Into("").Upload(t.Context(), desc, bytes.NewReader(b), func(int64) {}); !errors.Is(err, syscall.EIO) {
			t.Errorf("Upload = %v, want EIO", err)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Into("").Upload(stopped, desc, bytes.NewReader(right), func(int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Upload = %v, want context.Canceled", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "blobs/sha256")); err != nil || len(left) > 0 {
		t.Errorf("left is %v, %v", left, err)
	}
	var told int64
	if _, err := l.Into("").Upload(t.Context(), desc, bytes.NewReader(right), func(n int64) { told = n }); err != nil || told != desc.Size {
		t.Errorf("Upload = %v, %d bytes told", err, told)
	}
	if has, err := l.Into("").Has(t.Context(), desc); err != nil || !has {
		t.Errorf("Has = %v, %v", has, err)
	}
	desc.Size--
	if has, err := l.Into("").Has(t.Context(), desc); err != nil || has {
		t.Errorf("Has of another size = %v, %v, want false", has, err)
	}
}

// TestLayoutMendsBlob: bytes that are not those of their digest are not taken for them, and are replaced.
func TestLayoutMendsBlob(t *testing.T) {
	dir := t.TempDir()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	right := []byte(`{"right":1}`)
	desc := describe(ocispec.MediaTypeImageManifest, right)
	path := filepath.Join(dir, "blobs/sha256", desc.Digest.Encoded())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{`{"wrong":1}`, `{`} {
		write(t, path, wrong)
		if has, err := l.Has(t.Context(), desc); err != nil || has {
			t.Errorf("Has of %s = %v, %v, want false", wrong, has, err)
		}
		if err := l.Into("").PutManifest(t.Context(), desc, right); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, right) {
			t.Errorf("there is %s, %v", got, err)
		}
		if has, err := l.Has(t.Context(), desc); err != nil || !has {
			t.Errorf("Has = %v, %v, want true", has, err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left is %v, %v", left, err)
	}
}

// TestLayoutStaysInside does not follow a link out of its directory, reading or
// writing, and is not hung by a fifo.
func TestLayoutStaysInside(t *testing.T) {
	outside := t.TempDir()
	secret := describe("", []byte("secret"))
	write(t, filepath.Join(outside, secret.Digest.Encoded()), "secret")
	dir := t.TempDir()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Mkdir(filepath.Join(dir, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "blobs/sha256")); err != nil {
		t.Fatal(err)
	}
	if f, err := l.Blob(secret.Digest); err == nil {
		f.Close()
		t.Error("it reads what is outside")
	}
	if err := l.Into("").PutManifest(t.Context(), describe("", []byte("new")), []byte("new")); err == nil {
		t.Error("it writes outside")
	}
	write(t, filepath.Join(outside, "index.json"), `{"schemaVersion":2,"manifests":[]}`)
	if err := os.Symlink(filepath.Join(outside, "index.json"), filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Into("x").Name(t.Context(), secret, nil); err == nil {
		t.Error("it reads an index that is outside")
	}
	fifo := describe("", []byte("fifo"))
	if err := os.Mkdir(filepath.Join(dir, "blobs/sha512"), 0o755); err != nil {
		t.Fatal(err)
	}
	dgst := digest.SHA512.FromString("fifo")
	if err := syscall.Mkfifo(filepath.Join(dir, "blobs/sha512", dgst.Encoded()), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := l.Blob(dgst); err == nil {
		f.Close()
		t.Errorf("it opens a fifo, %s", fifo.Digest)
	}
}

func TestLayoutImage(t *testing.T) {
	dir := t.TempDir()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Image(""); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Image of none = %v", err)
	}
	enter(t, dir, "one", []byte("1"))
	if got, err := l.Image(""); err != nil || got.Digest != digest.FromString("1") {
		t.Errorf("Image of one = %v, %v", got, err)
	}
	enter(t, dir, "registry:5000/two:2", []byte("2"))
	for name, want := range map[string]string{"one": "1", "registry:5000/two:2": "2", digest.FromString("1").String(): "1"} {
		if got, err := l.Image(name); err != nil || got.Digest != digest.FromString(want) {
			t.Errorf("Image(%q) = %v, %v", name, got, err)
		}
	}
	if _, err := l.Image(""); err == nil || !strings.Contains(err.Error(), "none was named") {
		t.Errorf("Image of two = %v", err)
	}
	if _, err := l.Image("three"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Image of an absent name = %v", err)
	}
	write(t, filepath.Join(dir, "index.json"), `{"manifests":[{"digest":"../../etc","annotations":{"org.opencontainers.image.ref.name":"x"}}]}`)
	if got, err := l.Image("x"); err == nil {
		t.Errorf("Image of no digest = %v", got)
	}
}
