package fs_test

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/image"
	"distfs/internal/testlayer"
	"distfs/locator"
)

// TestAlone reads an image that is mounted by itself, whose files nobody opens.
func TestAlone(t *testing.T) {
	src := newSource(t)
	large := string(content(5, 3<<20+5))
	im := addFiles(t, src, gzipped(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n"), testlayer.Reg("large", large), testlayer.Reg("empty", "")))
	m := mountImage(t, src, im)
	m.wantFile("etc/a", []byte("one\n"))
	m.wantFile("large", []byte(large))
	m.wantFile("empty", nil)
	if got, want := m.list(), []string{"empty", "etc", "large"}; !slices.Equal(got, want) {
		t.Errorf("the root has %q, want %q", got, want)
	}
	if _, err := call[[]string, int](m.agent, "Conform", []string{m.dir, "etc/a", "large"}); err != nil {
		t.Error(err)
	}
	read := readers(m, "large", len(large))
	for range 4 {
		if got, err := read(); err != nil || !bytes.Equal(got, []byte(large)) {
			t.Errorf("one of several readers has %d bytes, %v", len(got), err)
		}
	}
	m.list("etc")
	requests := m.Stats().Requests
	for _, kind := range []string{"open", "flush", "opendir"} {
		if n := requests[kind].Count; n > 1 {
			t.Errorf("the kernel asked %d times to %s, after it was told that nobody need", n, kind)
		}
	}
}

// readers reads a file several times at once.
func readers(m *mount, path string, n int) func() ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	results := make(chan result, 4)
	for range 4 {
		got, wait := start[Range, []byte](m.agent, "Read", Range{m.path(path), 0, n})
		go func() {
			err := wait()
			results <- result{*got, err}
		}()
	}
	return func() ([]byte, error) {
		r := <-results
		return r.b, r.err
	}
}

// TestAloneStat asks what a mount of one image is of, and what of its files is here.
func TestAloneStat(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, estargz(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n"), testlayer.Reg("etc/b", "two\n"), testlayer.Reg("empty", "")))
	m := mountImage(t, src, im)
	m.stat(m.path("etc", "a"))
	root := m.info(t, src, "")
	if root.Kind != "root" || root.Locator != repo || root.Digest != im.manifest.desc.Digest || root.MediaType != im.manifest.desc.MediaType {
		t.Errorf("of the root: %+v, want the image %s@%s", root, repo, im.manifest.desc.Digest)
	}
	want := func(path, state string, local int64) {
		t.Helper()
		if got := m.info(t, src, path); got.State != state || got.Local != local {
			t.Errorf("%s is %q, with %d bytes here, want %q, %d", path, got.State, got.Local, state, local)
		}
	}
	want("etc/a", "absent", 0)
	want("empty", "complete", 0)
	want("etc", "", 0)
	m.wantFile("etc/a", []byte("one\n"))
	want("etc/a", "complete", 4)
	want("etc/b", "", 0) // a part of the layer is here, and may have it
	if _, err := m.Stat("etc/none"); !errors.Is(err, iofs.ErrNotExist) || !strings.Contains(err.Error(), "no such file in the image") {
		t.Errorf("Stat of what the image lacks = %v", err)
	}
}

// TestAlonePlatform mounts an image in no index that is for another platform.
func TestAlonePlatform(t *testing.T) {
	needMounts(t)
	src := newSource(t)
	im := addFilesAs(t, src, `{"architecture":"s390x","os":"linux"}`, gzipped(t, testlayer.Reg("a", "one\n")))
	mount := func(p ocispec.Platform) (string, error) {
		log := &lines{}
		opts := &fs.Options{Platform: p, StateDir: filepath.Join(t.TempDir(), "state"), Log: slog.New(slog.NewTextHandler(log, nil))}
		m, err := fs.MountImage(t.Context(), t.TempDir(), src, nil, locator.Reference{Locator: im.manifest.loc, Digest: im.manifest.desc.Digest}, opts)
		if err == nil {
			err = m.Unmount()
		}
		return log.String(), err
	}
	_, err := mount(amd64)
	if _, is := errors.AsType[*image.PlatformError](err); !is || !strings.Contains(err.Error(), "linux/amd64") || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("MountImage for another platform = %v, want an error that names both", err)
	}
	if log, err := mount(ocispec.Platform{OS: "linux", Architecture: "s390x"}); err != nil || strings.Contains(log, "another platform") {
		t.Errorf("MountImage for its platform = %v, log %s", err, log)
	}
	if log, err := mount(ocispec.Platform{}); err != nil || strings.Count(log, "another platform") != 1 {
		t.Errorf("MountImage for no platform = %v, log %s", err, log)
	}
}
