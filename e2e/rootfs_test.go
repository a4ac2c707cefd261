package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"distfs/e2e/formats"
	"distfs/internal/testlayer"
	"distfs/internal/testregistry"
)

// TestDebian mounts a Debian image of four layers, in every format, and compares its
// trees with what umoci makes of the gzip image, to the last attribute and byte.
func TestDebian(t *testing.T) {
	if raceEnabled {
		t.Skip("it reads gigabytes: with the race detector TestTreesByChance and TestOddImage have to do")
	}
	needUmoci(t)
	needFUSE(t)
	d := newDebian(t)
	for _, tag := range []string{"gzip", "zstd", "estargz", "zchunked", oldChunked} {
		t.Run(tag, func(t *testing.T) { d.test(t, tag) })
	}
	t.Run("tar of estargz", func(t *testing.T) { // which has the times that the table of contents has not
		m := serve(t, d.bin, t.TempDir(), "--trust-toc=no")
		likeness{since: d.since}.sameTrees(t, d.want, readTree(t, d.image(m, "estargz")+"/rootfs"))
	})
	t.Run("fstest", func(t *testing.T) {
		m := serve(t, d.bin, d.store, d.reference("gzip"))
		if err := fstest.TestFS(os.DirFS(filepath.Join(m.dir, "var/lib")), "dpkg/status", "dpkg/info/tar.list"); err != nil {
			t.Error(err)
		}
	})
	t.Run("posix", func(t *testing.T) {
		checkReadOnlyPOSIX(t, d.image(serve(t, d.bin, d.store, "--allow-other"), "gzip")+"/rootfs")
	})
	t.Run("users", func(t *testing.T) {
		m := serve(t, d.bin, d.store, "--allow-other")
		public(t, m.dir)
		checkUsers(t, d.image(m, "gzip")+"/rootfs")
	})
	t.Run("a user's own", func(t *testing.T) {
		openDevice(t)
		checkAlone(t, d.image(serveAs(t, nobody, d.bin, t.TempDir()), "gzip")+"/rootfs")
	})
}

// A debian is the image, pushed in every format, and what umoci makes of it.
type debian struct {
	bin   string
	host  string // of the registry
	store string // in which the gzip image's files are, once it was read
	want  tree
	since time.Time // when umoci began
}

const (
	debianRepo = "team/debian"
	oldChunked = "zchunked-1.9" // the tag of what Debian's skopeo made
)

func newDebian(t *testing.T) *debian {
	t.Helper()
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	tars := debianTars(t, dir)
	d := &debian{bin: build(t), host: string(startDistribution(t)), store: filepath.Join(dir, "store"), since: time.Now().Add(-time.Second)}
	must(t, formats.Add(layout, "gzip", tars, formats.Gzip, formats.GzipMembers))
	d.pushChunked(t, layout, "gzip", oldChunked)
	for tag, f := range map[string]formats.Format{"zstd": formats.Zstd, "estargz": formats.EStargz, "zchunked": formats.ZstdChunked} {
		must(t, formats.Add(layout, tag, tars, f))
		d.push(t, layout, tag)
	}
	d.push(t, layout, "gzip")
	d.want = readTree(t, unpackByUmoci(t, layout, "gzip"))
	return d
}

// unpackByUmoci returns the tree that umoci makes of an image in a layout.
func unpackByUmoci(t *testing.T, layout, tag string) string {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, "umoci", "unpack", "--image", layout+":"+tag, bundle)
	return filepath.Join(bundle, "rootfs")
}

func (d *debian) reference(tag string) string { return d.host + "/" + debianRepo + ":" + tag }

func (d *debian) push(t *testing.T, layout, tag string) {
	t.Helper()
	run(t, "skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout+":"+tag, "docker://"+d.reference(tag))
}

// pushChunked pushes an image as zstd:chunked as Debian's skopeo makes it, with the
// footer of its generation. To a registry that has the image already it would push nothing.
func (d *debian) pushChunked(t *testing.T, layout, from, tag string) {
	t.Helper()
	plain := filepath.Join(t.TempDir(), "plain")
	run(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-decompress", "oci:"+layout+":"+from, "dir:"+plain)
	run(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-compress-format", "zstd:chunked", "--format", "oci", "--dest-tls-verify=false", "dir:"+plain, "docker://"+d.reference(tag))
}

// image is the image's directory below a mount of all registries, by names without
// a colon, which a list of lower directories cannot have.
func (d *debian) image(m *served, tag string) string {
	return imageDir(m, d.host, debianRepo, tag)
}

func imageDir(m *served, host, repo, tag string) string {
	return filepath.Join(m.dir, strings.ReplaceAll(host, ":", "="), repo+"="+tag)
}

// test reads the image in one format, all from the registry.
func (d *debian) test(t *testing.T, tag string) {
	t.Helper()
	store := t.TempDir()
	if tag == "gzip" {
		store = d.store
	}
	same := likeness{since: d.since, seconds: tag == "estargz"}
	var first tree
	all := serve(t, d.bin, store)
	t.Run("rootfs", func(t *testing.T) {
		first = readTree(t, d.image(all, tag)+"/rootfs")
		same.sameTrees(t, d.want, first)
	})
	if tag == oldChunked { // of which only the table of contents is another
		return
	}
	t.Run("overlay", func(t *testing.T) {
		over := same
		over.links = true // the kernel's overlay counts the names that upper layers hide
		over.sameTrees(t, d.want, readTree(t, mountOverlay(t, d.image(all, tag), 4)))
	})
	must(t, all.stop())
	t.Run("again", func(t *testing.T) { // with what is in the store
		again := readTree(t, d.image(serve(t, d.bin, store, "--offline"), tag)+"/rootfs")
		same.sameTrees(t, d.want, again)
		sameInodes(t, first, again)
	})
	t.Run("alone", func(t *testing.T) {
		same.sameTrees(t, d.want, readTree(t, serve(t, d.bin, t.TempDir(), d.reference(tag)).dir))
	})
}

// mountOverlay has the kernel lay the image's layers over one another, until the
// test ends, and returns where.
func mountOverlay(t *testing.T, image string, layers int) string {
	t.Helper()
	var lower []string
	for i := range layers {
		lower = append([]string{fmt.Sprintf("%s/layers/%d", image, i)}, lower...)
	}
	if layers == 1 { // the kernel wants two
		lower = append(lower, t.TempDir())
	}
	dir := t.TempDir()
	must(t, unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// TestOddImage compares what tables of contents, or their makers, cannot say: names
// that are not UTF-8, sparse files, a name twice, names of which only the layers below
// know where they lead.
func TestOddImage(t *testing.T) {
	needUmoci(t)
	needFUSE(t)
	dir, bin := t.TempDir(), build(t)
	layout := filepath.Join(dir, "layout")
	tars, dense := oddTars(t, dir)
	d := &debian{host: string(startDistribution(t))}
	since := time.Now().Add(-time.Second)
	for tag, f := range map[string]formats.Format{"gzip": formats.Gzip, "zstd": formats.Zstd} {
		must(t, formats.Add(layout, tag, tars, f))
		d.push(t, layout, tag)
	}
	must(t, formats.Add(layout, "dense", dense, formats.Gzip))
	want := readTree(t, unpackByUmoci(t, layout, "dense"))
	for _, tag := range []string{"gzip", "zstd"} {
		t.Run(tag, func(t *testing.T) {
			m := serve(t, bin, t.TempDir())
			likeness{since: since}.sameTrees(t, want, readTree(t, d.image(m, tag)+"/rootfs"))
		})
	}
}

// oddTars makes the tars of an image whose second and third layer GNU tar makes of
// files with holes, in both of its ways to say so; and the same without holes, for
// umoci does not know one of them.
func oddTars(t *testing.T, dir string) (sparse, dense []string) {
	t.Helper()
	reg, link := testlayer.Reg, testlayer.Link
	holes := filepath.Join(dir, "holes")
	must(t, os.Mkdir(holes, 0o755))
	for name, data := range map[string]map[int64]string{
		"begins": {0: "here", 5 << 20: "there"}, "ends": {3 << 20: "here"},
		"many": {1 << 20: "1", 2 << 20: "2", 3 << 20: "3", 4 << 20: "4", 5 << 20: "5", 6 << 20: "6", 7 << 20: "7"}, "only": {},
	} {
		writeSparse(t, filepath.Join(holes, name), 16<<20, data)
	}
	first := []testlayer.File{
		testlayer.Dir("usr/lib"), testlayer.Symlink("lib", "usr/lib"), reg("usr/lib/file", "file"), testlayer.Symlink("way", "/lib"),
		reg("\xff\xfe not UTF-8 \x80", "a name"), testlayer.Symlink("caf\xe9", "to caf\xe9"), testlayer.Dir("d\xe9"), reg("d\xe9/f", "below"),
		reg("twice", "the first"), with(reg("twice", "the second"), mode(0o640)),
	}
	later := []testlayer.File{reg("lib/through", "a link"), reg("way/too", "through two"), link("hard", "lib/file"), reg("d\xe9/.wh.f", ""), reg("d\xe9/g", "below")}
	for i := range 4 {
		sparse = append(sparse, filepath.Join(dir, fmt.Sprintf("%d.tar", i)))
	}
	writeFile(t, sparse[0], testlayer.Tar(t, first...))
	writeFile(t, sparse[3], testlayer.Tar(t, later...))
	dense = slices.Clone(sparse)
	for i, args := range [][]string{1: {"--format=posix"}, 2: {"--format=gnu", "--transform=s/holes/gnu/"}} {
		if len(args) > 0 {
			dense[i] += ".dense"
			args = append(args, "-C", dir, "holes", "-cf")
			run(t, "tar", append(slices.Clone(args), dense[i])...)
			run(t, "tar", append(args, sparse[i], "-S")...)
		}
	}
	return sparse, dense
}

func writeSparse(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for off, s := range data {
		_, err := f.WriteAt([]byte(s), off)
		must(t, err)
	}
}

// TestTreesByChance compares images of few names and many entries.
func TestTreesByChance(t *testing.T) {
	needUmoci(t)
	needFUSE(t)
	bin := build(t)
	for name, image := range unpackImages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			since, dir := time.Now().Add(-time.Second), t.TempDir()
			var tars [][]byte
			for _, files := range image {
				tars = append(tars, testlayer.Tar(t, files...))
			}
			writeLayout(t, dir, tars)
			want := readTree(t, unpackByUmoci(t, dir, "1"))
			reg := testregistry.Start(t, nil)
			putImage(t, reg, image)
			at := imageDir(serve(t, bin, t.TempDir()), reg.Host(), "app", "1")
			likeness{since: since}.sameTrees(t, want, readTree(t, at+"/rootfs"))
			if name != "base" && !hidesRoot(image) { // in base names lead by a link of another layer: overlays know no such thing
				likeness{since: since, links: true}.sameTrees(t, want, readTree(t, mountOverlay(t, at, len(image))))
			}
		})
	}
}

// hidesRoot says whether a layer hides all that lies below it. The kernel does not
// look whether the root of a lower directory is opaque.
func hidesRoot(image [][]testlayer.File) bool {
	return slices.ContainsFunc(image, func(files []testlayer.File) bool {
		return slices.ContainsFunc(files, func(f testlayer.File) bool { return f.Name == ".wh..wh..opq" })
	})
}
