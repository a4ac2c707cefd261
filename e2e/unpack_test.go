package e2e_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testlayer"
)

// TestUnpackAsUmoci unpacks images layer by layer, and compares the tree with
// what umoci makes of the same image, to the last attribute.
func TestUnpackAsUmoci(t *testing.T) {
	needUmoci(t)
	bin := build(t)
	for name, image := range unpackImages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareWithUmoci(t, bin, image)
		})
	}
}

// needUmoci skips where umoci is missing or can't do all, and fails in CI.
func needUmoci(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("umoci")
	switch {
	case err == nil && os.Geteuid() == 0:
	case os.Getenv("CI") != "" && err != nil:
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	default:
		t.Skip("not root: umoci and distfs differ in what they do about owners and devices")
	}
}

func compareWithUmoci(t *testing.T, bin string, image [][]testlayer.File) {
	t.Helper()
	begun, dir := time.Now().Add(-time.Second), t.TempDir()
	layout, bundle, rootfs := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle"), filepath.Join(dir, "rootfs")
	layers := make([][]byte, len(image))
	for i, files := range image {
		layers[i] = testlayer.Tar(t, files...)
	}
	writeLayout(t, layout, layers)
	if out, err := exec.Command("umoci", "unpack", "--image", layout+":1", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v: %s", err, out)
	}
	for i, layer := range layers {
		if i%2 == 1 {
			layer = testlayer.Zstd(t, layer)
		}
		cmd := exec.Command(bin, "unpack", rootfs)
		cmd.Stdin = bytes.NewReader(layer)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("distfs unpack: %v: %s", err, out)
		}
	}
	compareTrees(t, filepath.Join(bundle, "rootfs"), rootfs, begun, image)
}

// compareTrees compares the tree got with want, which umoci made of image since begun.
func compareTrees(t *testing.T, wantDir, gotDir string, begun time.Time, image [][]testlayer.File) {
	t.Helper()
	want, got := testlayer.Tree(t, wantDir), testlayer.Tree(t, gotDir)
	for name, line := range want {
		// umoci leaves the time of the removal in a directory below the one that a whiteout names.
		if info, err := os.Lstat(filepath.Join(wantDir, name)); err != nil || !info.ModTime().Before(begun) {
			line = withoutTime(line)
			got[name] = withoutTime(got[name])
		}
		if got[name] != line {
			t.Errorf("%s is %q, umoci's %q", name, got[name], line)
		}
	}
	for name, line := range got {
		if _, has := want[name]; !has {
			t.Errorf("%s is %q, umoci has none", name, line)
		}
	}
	if t.Failed() {
		for i, files := range image {
			for _, f := range files {
				t.Logf("layer %d: %c %s %s", i, f.Typeflag, f.Name, f.Linkname)
			}
		}
	}
}

// withoutTime is a line of a tree without its third word.
func withoutTime(line string) string {
	words := strings.Fields(line)
	return strings.Join(append(words[:min(2, len(words))], words[min(3, len(words)):]...), " ")
}

// writeLayout makes an image of layers, tagged 1, compressed by gzip.
func writeLayout(t *testing.T, dir string, layers [][]byte) {
	t.Helper()
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		writeFile(t, filepath.Join(dir, "blobs/sha256", desc.Digest.Encoded()), b)
		return desc
	}
	putJSON := func(mediaType string, v any) ocispec.Descriptor {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, b)
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		config.History = append(config.History, ocispec.History{})
		m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, l)))
	}
	m.Config = putJSON(ocispec.MediaTypeImageConfig, config)
	desc := putJSON(ocispec.MediaTypeImageManifest, m)
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "1"}
	b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "index.json"), b)
	writeFile(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// unpackImages are one image as it might be, and some by chance.
func unpackImages() map[string][][]testlayer.File {
	images := map[string][][]testlayer.File{"base": baseImage()}
	for seed := range 20 {
		images[fmt.Sprintf("chance%d", seed)] = imageByChance(uint64(seed))
	}
	return images
}

func baseImage() [][]testlayer.File {
	with := func(f testlayer.File, change func(*tar.Header)) testlayer.File {
		change(&f.Header)
		return f
	}
	reg, dir, symlink, link := testlayer.Reg, testlayer.Dir, testlayer.Symlink, testlayer.Link
	sudo := with(reg("usr/bin/sudo", "sudo"), func(h *tar.Header) { h.Mode = 0o4755; h.Gid = 27 })
	ping := with(reg("usr/bin/ping", "ping"), func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	})
	return [][]testlayer.File{
		{
			with(dir("./"), func(h *tar.Header) { h.Mode = 0o711; h.ModTime = time.Unix(11, 12) }),
			dir("usr/"), dir("usr/bin/"), dir("usr/lib/"), symlink("bin", "usr/bin"), symlink("lib", "usr/lib"), sudo, ping,
			reg("usr/lib/libc.so.6", strings.Repeat("libc", 100_000)), symlink("usr/lib/libc.so", "libc.so.6"), link("usr/lib/libc-2.so", "./usr/lib/libc.so.6"),
			with(dir("tmp"), func(h *tar.Header) { h.Mode = 0o1777 }), dir("dev"), dir("etc"), dir("etc/conf.d"), reg("etc/conf.d/1", "1"), reg("etc/conf.d/2", "2"),
			with(reg("etc/shadow", "x"), func(h *tar.Header) { h.Mode = 0; h.Uid = 3; h.AccessTime = time.Unix(5, 5) }),
			{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3, Mode: 0o666}},
			{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/loop300", Devmajor: 7, Devminor: 300, Mode: 0o660, Gid: 6}},
			{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/initctl", Mode: 0o600}},
			reg(strings.Repeat("long-name-", 20), "GNU or PAX"), reg("zeros", string(make([]byte, 3<<20))),
		},
		{
			with(dir("etc"), func(h *tar.Header) {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "mine", "SCHILY.xattr.trusted.t": "t"}
			}),
			reg("etc/.wh.shadow", ""), dir("etc/conf.d"), reg("etc/conf.d/.wh..wh..opq", ""), reg("etc/conf.d/3", "3"),
			reg("lib/through-the-link", "x"), reg("usr/bin/.wh.ping", ""), reg("tmp", "a file now"),
		},
		{
			dir("tmp"), dir("etc"), symlink("usr/bin/sudo", "../lib/sudo"), link("usr/hard", "lib/libc.so.6"), reg("usr/lib/libc.so.6", "new libc"),
			reg("dev/null", "no device"), reg("dev/.wh.loop300", ""), reg("dev/.wh.initctl", ""), dir("dev/initctl"), reg(".wh.lib", ""),
		},
	}
}

// imageByChance makes layers of entries over few names. They are whole: each
// has entries for the directories of what it has, and hard links lead to files.
func imageByChance(seed uint64) [][]testlayer.File {
	r := rand.New(rand.NewPCG(seed, 0))
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "f", "f/a", "f/b", "f/e", "f/e/x"}
	image := make([][]testlayer.File, 2+r.IntN(4))
	for i := range image {
		entered := map[string]bool{}
		files := map[string]bool{}
		for range 3 + r.IntN(12) {
			name := names[r.IntN(len(names))]
			for at, c := range name {
				if c == '/' && !entered[name[:at]] {
					entered[name[:at]], files[name[:at]] = true, false
					image[i] = append(image[i], change(r, testlayer.Dir(name[:at])))
				}
			}
			above, base := name[:strings.LastIndex(name, "/")+1], name[strings.LastIndex(name, "/")+1:]
			var f testlayer.File
			switch n := r.IntN(10); {
			case n < 3:
				f = change(r, testlayer.Reg(name, fmt.Sprint(r.IntN(100))))
			case n < 5:
				f = change(r, testlayer.Dir(name))
			case n < 6:
				f = change(r, testlayer.Symlink(name, "d/e"))
			case n < 7:
				f = testlayer.Reg(above+".wh..wh..opq", "")
			case n < 9 || len(files) == 0:
				f = testlayer.Reg(above+".wh."+base, "")
			default:
				f = testlayer.Link(name, names[r.IntN(len(names))])
				if !files[f.Linkname] || f.Linkname == name {
					continue
				}
			}
			if !strings.Contains(f.Name, ".wh.") {
				for other := range files { // what was below is gone, or may be
					if other == name || strings.HasPrefix(other, name+"/") {
						delete(files, other)
					}
				}
				for other := range entered {
					if (other == name || strings.HasPrefix(other, name+"/")) && f.Typeflag != tar.TypeDir {
						delete(entered, other)
					}
				}
				files[name] = f.Typeflag == tar.TypeReg
				if f.Typeflag == tar.TypeDir {
					entered[name] = true
				}
			}
			image[i] = append(image[i], f)
		}
	}
	return image
}

// change gives f attributes by chance.
func change(r *rand.Rand, f testlayer.File) testlayer.File {
	f.Mode = int64(r.IntN(0o10000))
	f.Uid, f.Gid = r.IntN(3), r.IntN(3)*1000
	f.ModTime = time.Unix(int64(r.IntN(1e9)), int64(r.IntN(1e9)))
	if r.IntN(3) == 0 && f.Typeflag != tar.TypeSymlink {
		f.PAXRecords = map[string]string{fmt.Sprintf("SCHILY.xattr.user.%c", 'a'+r.IntN(3)): "value"}
	}
	return f
}
