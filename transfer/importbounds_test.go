package transfer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestImportMany: entries are counted.
func TestImportMany(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		for range 100_001 {
			if tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "d/"}) != nil {
				return
			}
		}
		w.Close()
	}()
	_, err := transfer.ImportArchive(t.Context(), openStore(t), r, "test")
	r.Close()
	if err == nil || !strings.Contains(err.Error(), "more than 100000 entries") {
		t.Errorf("import = %v", err)
	}
}

// TestImportLinks: where links lead is bounded, each and all together.
func TestImportLinks(t *testing.T) {
	for name, length := range map[string]int{"a long one": 1025, "many": 1000} {
		t.Run(name, func(t *testing.T) {
			r, w := io.Pipe()
			defer r.Close()
			go func() {
				tw := tar.NewWriter(w)
				for range 40_000 {
					if tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: strings.Repeat("x", length)}) != nil {
						return
					}
				}
				w.Close()
			}()
			_, err := transfer.ImportArchive(t.Context(), folder(t.TempDir()), r, "test")
			want := map[int]string{1025: "target is too long", 1000: "bytes in all"}[length]
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("import = %v, want %q in it", err, want)
			}
		})
	}
}

// A counted store counts how often a blob is opened.
type counted struct {
	folder
	opened map[digest.Digest]int
}

func (s counted) Blob(dgst digest.Digest) (*os.File, error) {
	s.opened[dgst]++
	return s.folder.Blob(dgst)
}

// TestImportDockerAgain: what an archive of docker save names many times is read
// once.
func TestImportDockerAgain(t *testing.T) {
	const layers, images = 50, 50
	plain := testlayer.Tar(t, testlayer.Reg("f", "f"))
	z := gzipped(t, plain)
	list := func(one string, n int) string { return "[" + strings.Repeat(one+",", n-1) + one + "]" }
	config := fmt.Sprintf(`{"rootfs":{"diff_ids":%s}}`, list(`"`+digest.FromBytes(plain).String()+`"`, layers))
	archive := testlayer.Tar(t, testlayer.Reg("c", config), testlayer.Reg("l", string(z)),
		testlayer.Reg("manifest.json", list(`{"Config":"c","Layers":`+list(`"l"`, layers)+`}`, images)))
	s := counted{folder(t.TempDir()), map[digest.Digest]int{}}
	im, err := importArchive(t, s, archive)
	if err != nil || len(im.Images) != images {
		t.Fatalf("import = %+v, %v", im, err)
	}
	if n := s.opened[digest.FromBytes(z)]; n > 3 { // as it came, for its type, and for its tar
		t.Errorf("the layer was opened %d times", n)
	}
	if n := s.opened[digest.FromString(config)]; n > 2 {
		t.Errorf("the config was opened %d times", n)
	}
}

// TestImportInflated: what layers inflate to is bounded together.
func TestImportInflated(t *testing.T) {
	var files []testlayer.File
	var names, ids []string
	for i := range 3 {
		b := bytes.Repeat([]byte{byte(i)}, 1000)
		name := fmt.Sprint(i)
		files = append(files, testlayer.Reg(name, string(gzipped(t, b))))
		names, ids = append(names, name), append(ids, digest.FromBytes(b).String())
	}
	files = append(files, testlayer.Reg("c", fmt.Sprintf(`{"rootfs":{"diff_ids":%s}}`, encode(t, ids))),
		testlayer.Reg("manifest.json", fmt.Sprintf(`[{"Config":"c","Layers":%s}]`, encode(t, names))))
	archive := testlayer.Tar(t, files...)
	for most, whole := range map[int64]bool{0: false, 999: false, 2999: false, 3000: true} {
		_, err := transfer.ImportInflating(t.Context(), folder(t.TempDir()), bytes.NewReader(archive), most)
		if (err == nil) != whole || err != nil && !strings.Contains(err.Error(), "too large") {
			t.Errorf("with %d bytes: %v", most, err)
		}
	}
}

// TestImportObjects: many images that have the same many objects are read once,
// and counted together.
func TestImportObjects(t *testing.T) {
	all := blobs{}
	index := func(n int, of ...ocispec.Descriptor) ocispec.Descriptor {
		return all.add(ocispec.MediaTypeImageIndex, encode(t, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: of, Annotations: map[string]string{"n": fmt.Sprint(n)},
		}))
	}
	var leaves []ocispec.Descriptor
	for i := range 500 {
		leaves = append(leaves, all.add("x/y", []byte(fmt.Sprint(i))))
	}
	shared := index(0, leaves...)
	s := counted{folder(t.TempDir()), map[digest.Digest]int{}}
	for n, whole := range map[int]bool{10: true, 900: false} {
		var named []ocispec.Descriptor
		for i := range n {
			named = append(named, called(index(i+1, shared), fmt.Sprintf("a:%d", i)))
		}
		clear(s.opened)
		im, err := importArchive(t, s, testlayer.Tar(t, all.files(t, named...)...))
		if (err == nil) != whole || err == nil && len(im.Images) != n {
			t.Errorf("%d images: %v", n, err)
		}
		if got := s.opened[shared.Digest]; got > 2 { // as it came, and to be read
			t.Errorf("%d images: the index that all have was opened %d times", n, got)
		}
	}
}

// TestImportSparse: a few bytes of an archive are not a terabyte of zeros.
func TestImportSparse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "f"), 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "pax"} {
		archive, err := exec.Command("tar", "-C", dir, "-cSf", "-", "--format="+format, "f").Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := importArchive(t, openStore(t), archive); err == nil || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s, an archive of %d bytes: %v", format, len(archive), err)
		}
	}
}

// TestImportZeros: nor are a few bytes of one that is compressed.
func TestImportZeros(t *testing.T) {
	archive := gzipped(t, testlayer.Tar(t, testlayer.Reg("f", strings.Repeat("\x00", 32<<20))))
	dir := t.TempDir()
	_, err := transfer.ImportInflating(t.Context(), folder(dir), bytes.NewReader(archive), 1<<20)
	if err == nil || !strings.Contains(err.Error(), "inflates to") {
		t.Errorf("an archive of %d bytes: %v", len(archive), err)
	}
}
