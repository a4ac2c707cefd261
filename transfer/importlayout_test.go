package transfer_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"testing"

	"distfs/transfer"
)

func TestImportLayout(t *testing.T) {
	l := blobs{}
	one, two := l.image(t, "one"), l.index(t, l.image(t, "two"), l.image(t, "three"))
	dir := t.TempDir()
	l.write(t, dir, called(one, "a:1"), called(two, "b:1"))
	s := openStore(t)
	im, err := transfer.ImportLayout(t.Context(), s, dir, "")
	if err != nil || len(im.Images) != 2 {
		t.Fatalf("ImportLayout = %+v, %v", im, err)
	}
	holds(t, s, im)
	im.Release()
	s = openStore(t)
	im, err = transfer.ImportLayout(t.Context(), s, dir, "a:1")
	if err != nil || len(im.Images) != 1 || im.Images[0].Desc.Digest != one.Digest {
		t.Fatalf("ImportLayout of a:1 = %+v, %v", im, err)
	}
	im.Release()
	if _, err := s.Stat(two.Digest); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("what was not asked for is in the store: %v", err)
	}
	if _, err := transfer.ImportLayout(t.Context(), s, dir, "c:1"); !errors.Is(err, transfer.ErrNoImage) {
		t.Errorf("ImportLayout of c:1 = %v, want ErrNoImage", err)
	}
	l.write(t, dir, one, called(two, "b:1"))
	im, err = transfer.ImportLayout(t.Context(), s, dir, "")
	if err != nil || len(im.Images) != 1 || im.Unnamed != 1 {
		t.Errorf("ImportLayout with one that has no name = %+v, %v", im, err)
	} else {
		im.Release()
	}
}

// TestImportLayoutHostile: nothing outside of it is opened, and nothing in it
// hangs.
func TestImportLayoutHostile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir, blob string){
		"a link out": func(t *testing.T, dir, blob string) {
			t.Helper()
			outside := filepath.Join(filepath.Dir(dir), "outside")
			if err := errors.Join(os.Rename(blob, outside), os.Symlink(outside, blob)); err != nil {
				t.Fatal(err)
			}
		},
		"a fifo": func(t *testing.T, _, blob string) {
			t.Helper()
			if err := errors.Join(os.Remove(blob), mkfifo(blob)); err != nil {
				t.Fatal(err)
			}
		},
		"other bytes": func(t *testing.T, _, blob string) {
			t.Helper()
			b, err := os.ReadFile(blob)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(blob, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"fewer bytes": func(t *testing.T, _, blob string) {
			t.Helper()
			if err := os.Truncate(blob, 10); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, _, blob string) {
			t.Helper()
			if err := os.Remove(blob); err != nil {
				t.Fatal(err)
			}
		},
		"no directory but a fifo": func(t *testing.T, dir, _ string) {
			t.Helper()
			if err := errors.Join(os.RemoveAll(dir), mkfifo(dir)); err != nil {
				t.Fatal(err)
			}
		},
		"an index that links out": func(t *testing.T, dir, _ string) {
			t.Helper()
			index, outside := filepath.Join(dir, "index.json"), filepath.Join(filepath.Dir(dir), "outside.json")
			if err := errors.Join(os.Rename(index, outside), os.Symlink(outside, index)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := blobs{}
			image := l.image(t, "one")
			for dgst := range l {
				dir := filepath.Join(t.TempDir(), "layout")
				l.write(t, dir, called(image, "a:1"))
				change(t, dir, filepath.Join(dir, blobFile(dgst)))
				if im, err := transfer.ImportLayout(t.Context(), openStore(t), dir, ""); err == nil {
					t.Errorf("imported %+v", im.Images)
				}
			}
		})
	}
}
