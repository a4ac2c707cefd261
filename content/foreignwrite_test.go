package content_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/content"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestLayoutIndexSwapped: who owns the directory makes a link of index.json, to a file of who writes, between any two looks at
// it. What that file has never comes into index.json.
func TestLayoutIndexSwapped(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	secret, index := filepath.Join(home, "config.json"), filepath.Join(dir, "index.json")
	write(t, secret, `{"auths":{"ghcr.io":{"auth":"c2VjcmV0"}}}`)
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	leaked := func() bool {
		f, err := os.OpenFile(index, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return false
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		return err == nil && strings.Contains(string(b), "c2VjcmV0")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		aside := filepath.Join(dir, "x")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.WriteFile(aside, []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600), os.Rename(aside, index),
				os.Symlink(secret, aside)); err != nil {
				t.Error(err)
				return
			}
			if leaked() {
				t.Error("index.json has what is outside")
				return
			}
			if err := os.Rename(aside, index); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for i := 0; i < 500 && !t.Failed(); i++ {
		desc := describe(ocispec.MediaTypeImageManifest, fmt.Append(nil, i))
		if _, err := l.Into("x").Name(t.Context(), desc, nil); err == nil && leaked() {
			t.Fatal("index.json has what is outside")
		}
	}
}

// TestLayoutDirSwapped: the directory that was opened is written to, whatever has its path by then.
func TestLayoutDirSwapped(t *testing.T) {
	top := t.TempDir()
	dir, victim := filepath.Join(top, "layout"), filepath.Join(top, "victim")
	if err := os.Mkdir(victim, 0o700); err != nil {
		t.Fatal(err)
	}
	const theirs = `{"schemaVersion":2,"manifests":[],"mine":true}`
	write(t, filepath.Join(victim, "index.json"), theirs)
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Symlink(victim, dir)); err != nil {
		t.Fatal(err)
	}
	b := []byte(`{}`)
	desc := describe(ocispec.MediaTypeImageManifest, b)
	w := l.Into("x")
	if err := w.PutManifest(t.Context(), desc, b); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Name(t.Context(), desc, b); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(victim, "index.json")); err != nil || string(got) != theirs {
		t.Errorf("the other directory's index.json is %s, %v", got, err)
	}
	if got := entries(t, dir+".old"); len(got) != 1 {
		t.Errorf("index.json has %q", got)
	}
}

// TestLayoutIndexBounded: one of too many entries, or fields, or bytes is no index, and costs little.
func TestLayoutIndexBounded(t *testing.T) {
	entry := `{"annotations":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`
	var fields strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&fields, `,"f%d":0`, i)
	}
	for name, index := range map[string]string{
		"entries": `{"manifests":[` + strings.Repeat("{},", 2<<20) + `{}]}`,
		"fields":  `{"manifests":[]` + fields.String() + `}`,
		"bytes":   `{"manifests":[]}` + strings.Repeat(" ", 8<<20),
		"entry":   `{"manifests":[` + entry + `]}`,
		"behind":  `{"manifests":[]}{}`,
		"list":    `{"manifests":{}}`,
		"half":    `{"manifests":[{}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, l := layoutWith(t, index)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if image, err := l.Image("x"); err == nil || errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("Image = %v, %v", image, err)
			}
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
				t.Errorf("%d MiB were allocated for %d KiB", n, len(index)>>10)
			}
			if _, err := l.Into("x").Name(t.Context(), describe("a/b", []byte("x")), nil); err == nil {
				t.Error("it is added to")
			}
			if b, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || string(b) != index {
				t.Errorf("it was written over, %v", err)
			}
		})
	}
}

// TestLayoutIndexNested: what is nested deeply would be many times as long with its lines indented, and costs little.
func TestLayoutIndexNested(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	index := `{"x":[` + strings.Repeat(deep+",", 9) + `0],"manifests":[]}`
	dir, l := layoutWith(t, index)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := l.Into("x").Name(t.Context(), describe("a/b", []byte("x")), nil)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("it is added to")
	}
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
		t.Errorf("%d MiB were allocated for %d KiB", n, len(index)>>10)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || string(b) != index {
		t.Errorf("it was written over, %v", err)
	}
}

// TestLayoutLocked: who waits for another that writes the index does not wait longer than its context.
func TestLayoutLocked(t *testing.T) {
	dir := t.TempDir()
	l, err := content.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b := []byte("{}")
	desc := describe("a/b", b)
	if err := l.Into("x").PutManifest(t.Context(), desc, b); err != nil { // for which nobody waits
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.Into("x").Name(ctx, desc, b)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Name = %v, want context.Canceled", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Into("x").Name(t.Context(), desc, b); err != nil {
		t.Error(err)
	}
}

// TestLayoutSweeps what one that died left, and not what one that lives is writing.
func TestLayoutSweeps(t *testing.T) {
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	dead, living, others := filepath.Join(blobs, ".distfs-1"), filepath.Join(blobs, ".distfs-2"), filepath.Join(blobs, ".other")
	for _, path := range []string{dead, living, others, filepath.Join(dir, ".distfs-3")} {
		write(t, path, "half")
	}
	f, err := os.Open(living)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, ".distfs-4"), 0o600); err != nil {
		t.Fatal(err)
	}
	enter(t, dir, "x", []byte("1"))
	var left []string
	for _, pattern := range []string{"/.[a-z]*", "/blobs/sha256/.[a-z]*"} {
		names, err := filepath.Glob(dir + pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, names...)
	}
	if want := []string{filepath.Join(dir, ".distfs-4"), living, others}; !slices.Equal(left, want) {
		t.Errorf("left is %q, want %q", left, want)
	}
}

// TestLayoutFifos: none hangs who opens a layout or writes into it.
func TestLayoutFifos(t *testing.T) {
	fifo := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "oci-layout", "index.json", "blobs", "blobs/sha256", "blobs/sha512"} {
		dir := filepath.Join(t.TempDir(), "l")
		fifo(filepath.Join(dir, name))
		l, err := content.CreateLayout(dir)
		if err != nil {
			if l, err := content.OpenLayout(dir); err == nil {
				l.Close()
				t.Errorf("it opens with a fifo %q", name)
			}
			continue
		}
		b := []byte("{}")
		w, desc := l.Into("x"), describe("a/b", b)
		if err := errors.Join(w.PutManifest(t.Context(), desc, b), second(w.Name(t.Context(), desc, b))); err == nil {
			t.Errorf("it is written into with a fifo %q", name)
		}
		l.Close()
	}
}

func second(_ bool, err error) error { return err }

// TestReplaceFile: what was there stays until the new one is whole.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	write(t, name, "old")
	broken := errors.New("broken")
	err := content.ReplaceFile(name, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if b, rerr := os.ReadFile(name); !errors.Is(err, broken) || rerr != nil || string(b) != "old" {
		t.Errorf("ReplaceFile = %v, and there is %q", err, b)
	}
	err = content.ReplaceFile(name, func(w io.Writer) error {
		f, _ := w.(*os.File)
		_, err := f.Read(make([]byte, 1)) // it can't be
		return err
	})
	if err == nil || !strings.Contains(err.Error(), " "+name+": ") {
		t.Errorf("ReplaceFile of a file that fails = %v, want %s to be named", err, name)
	}
	whole := func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }
	for _, name := range []string{name, filepath.Join(dir, "g")} {
		if err := content.ReplaceFile(name, whole); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "new" {
			t.Errorf("there is %q, %v", b, err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("it left %v, %v", list, err)
	}
	none := filepath.Join(dir, "no")
	if err := content.ReplaceFile(filepath.Join(none, "f"), whole); !errors.Is(err, iofs.ErrNotExist) || !strings.Contains(err.Error(), none+":") {
		t.Errorf("ReplaceFile without a directory = %v", err)
	}
}

// TestReplaceFileNamed: where a file system has no files without a name, one that is being written is not swept, and nothing is
// left of it.
func TestReplaceFileNamed(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := content.SweepAsides(dir); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range 200 {
		name, want := filepath.Join(dir, fmt.Sprint("f", i%3)), fmt.Sprint("new ", i)
		if err := content.ReplaceFileNamed(name, func(w io.Writer) error { _, err := io.WriteString(w, want); return err }); err != nil {
			t.Errorf("ReplaceFileNamed = %v", err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("there is %q, %v, want %q", b, err, want)
		}
	}
	broken := errors.New("broken")
	if err := content.ReplaceFileNamed(filepath.Join(dir, "f0"), func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("ReplaceFileNamed = %v, want %v", err, broken)
	}
	close(stop)
	sweeping.Wait()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 3 {
		t.Errorf("it left %v, %v", list, err)
	}
}

// layoutWith makes a layout with nothing but this index.json, and opens it.
func layoutWith(t *testing.T, index string) (dir string, l *content.Layout) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	write(t, filepath.Join(dir, "index.json"), index)
	l, err := content.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return dir, l
}
