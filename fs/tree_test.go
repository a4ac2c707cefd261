package fs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/internal/testlayer"
)

// A files is an image of a file system.
type files struct {
	dir      string // below the mount
	manifest *blob
	layers   []*blob
}

// A packed is a layer as it lies in a registry.
type packed struct {
	mediaType   string
	blob        []byte
	annotations map[string]string
}

func gzipped(tb testing.TB, entries ...testlayer.File) packed {
	tb.Helper()
	return packed{ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(tb, testlayer.Tar(tb, entries...)), nil}
}

func estargz(tb testing.TB, entries ...testlayer.File) packed {
	tb.Helper()
	b, annotations := testlayer.EStargz(tb, nil, entries...)
	return packed{ocispec.MediaTypeImageLayerGzip, b, annotations}
}

// addFiles adds an image of these layers, lowest first, without diffIDs.
func addFiles(tb testing.TB, src *source, layers ...packed) files {
	tb.Helper()
	return addFilesAs(tb, src, `{"architecture":"amd64","os":"linux"}`, layers...)
}

func addFilesAs(tb testing.TB, src *source, config string, layers ...packed) files {
	tb.Helper()
	var im files
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    src.add(repo, ocispec.MediaTypeImageConfig, []byte(config)).desc,
	}
	m.SchemaVersion = 2
	for _, l := range layers {
		b := src.add(repo, l.mediaType, l.blob)
		im.layers = append(im.layers, b)
		desc := b.desc
		desc.Annotations = l.annotations
		m.Layers = append(m.Layers, desc)
	}
	b, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	im.manifest = src.add(repo, ocispec.MediaTypeImageManifest, b)
	im.dir = repo + "@" + string(im.manifest.desc.Digest)
	return im
}

// TestRootfs reads what layers make together, and each alone.
func TestRootfs(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src,
		gzipped(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n"), testlayer.Reg("etc/b", "below\n"), testlayer.Link("etc/c", "etc/b")),
		gzipped(t, testlayer.Reg("etc/a", "two\n"), testlayer.Reg("etc/.wh.b", ""), testlayer.Dir("opt"), testlayer.Reg("opt/.wh..wh..opq", ""), testlayer.Symlink("l", "etc/a")))
	m := mountSource(t, src, nil)
	root := im.dir + "/rootfs"
	m.wantFile(root+"/etc/a", []byte("two\n"))
	m.wantFile(root+"/etc/c", []byte("below\n"))
	m.wantFile(root+"/l", []byte("two\n"))
	if got, want := m.list(root+"/etc"), []string{"a", "c"}; !slices.Equal(got, want) {
		t.Errorf("etc has %q, want %q", got, want)
	}
	if st := m.stat(m.path(root + "/etc/c")); st.Nlink != 1 {
		t.Errorf("a file whose other name is hidden has %d links, want 1", st.Nlink)
	}
	if got, want := m.list(im.dir), []string{"config.json", "layers", "manifest.json", "rootfs"}; !slices.Equal(got, want) {
		t.Errorf("an image that was looked into has %q, want %q", got, want)
	}
	upper := im.dir + "/layers/1"
	if st := m.stat(m.path(upper + "/etc/b")); st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 0 {
		t.Errorf("a whiteout has the mode %o and is the device %d, want a 0/0 character device", st.Mode, st.Rdev)
	}
	if got, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(upper + "/opt"), "trusted.overlay.opaque"}); got != "y" {
		t.Errorf("trusted.overlay.opaque of an opaque directory is %q, %v, want y", got, err)
	}
	a, b := m.stat(m.path(im.dir+"/layers/0/etc/b")), m.stat(m.path(im.dir+"/layers/0/etc/c"))
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("hard links are the inodes %d and %d, of %d links, want one of 2", a.Ino, b.Ino, a.Nlink)
	}
	for name, want := range map[string]string{
		"user.distfs.layer":  string(im.layers[1].desc.Digest),
		"user.distfs.digest": string(digestOf([]byte("two\n"))),
		"user.distfs.view":   "tar",
	} {
		if got, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(root + "/etc/a"), name}); got != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(root + "/etc/a"), ""}); got != "" || err != nil {
		t.Errorf("listed are the attributes %q, %v, want none", got, err)
	}
	for name, want := range map[string]syscall.Errno{"security.selinux": syscall.EOPNOTSUPP, "system.posix_acl_access": syscall.EOPNOTSUPP, "security.capability": syscall.ENODATA} {
		if _, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(root + "/etc/a"), name}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := call[[]string, int](m.agent, "Conform", []string{m.path(root), "etc/a", "etc/c"}); err != nil {
		t.Error(err)
	}
}

// TestRootfsAsksLittle wants what is in an image to be found by few requests, and
// nothing asked again by who comes later.
func TestRootfsAsksLittle(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, estargz(t, testlayer.Dir("etc"), testlayer.Reg("etc/a", "one\n")), estargz(t, testlayer.Reg("etc/b", "two\n")))
	m := mountSource(t, src, nil)
	m.wantFile(im.dir+"/rootfs/etc/b", []byte("two\n"))
	m.wantFile(im.dir+"/rootfs/etc/a", []byte("one\n"))
	var ranges, others int
	for _, r := range src.requests() {
		if strings.HasPrefix(r, "range ") {
			ranges++
		} else {
			others++
		}
	}
	if ranges != 2 || others != 1 {
		t.Errorf("asked for %d ranges and %d other things, want one for each layer's table, and the manifest", ranges, others)
	}
	for _, l := range im.layers {
		if n := l.edit(func(*blob) {}); n.all > 1 {
			t.Errorf("a layer was opened %d times", n.all)
		}
	}
	run(t, "find", m.path(im.dir+"/rootfs"))
	run(t, "ls", "-lR", m.path(im.dir+"/rootfs"))
	if got := src.requests(); len(got) > 0 {
		t.Errorf("a walk asked %q", got)
	}
	again := mountSource(t, src, nil)
	again.wantFile(im.dir+"/rootfs/etc/a", []byte("one\n"))
	if got := src.requests(); len(got) > 0 {
		t.Errorf("the next mount asked %q", got)
	}
	for _, path := range []string{"/rootfs", "/rootfs/etc", "/rootfs/etc/a", "/layers/0/etc"} {
		if a, b := m.stat(m.path(im.dir+path)), again.stat(again.path(im.dir+path)); a.Ino != b.Ino || a.Mtim != b.Mtim || a.Nlink != b.Nlink {
			t.Errorf("%s is another one in the next mount: %+v, %+v", path, a, b)
		}
	}
}

// TestOthersIndex wants a tree not to be listed whose layer another repository's made
// the index of, for to look at it would ask.
func TestOthersIndex(t *testing.T) {
	src := newSource(t)
	l := gzipped(t, testlayer.Reg("a", "a\n"))
	im := addFiles(t, src, l)
	m := mountSource(t, src, nil)
	m.wantFile(im.dir+"/rootfs/a", []byte("a\n"))
	const elsewhere = "reg.example/team/other"
	for _, b := range slices.Collect(maps.Values(src.blobs)) {
		if twin := src.add(elsewhere, b.desc.MediaType, b.content); b != im.layers[0] {
			twin.complete(t)
		}
	}
	src.requests()
	dir := elsewhere + "@" + string(im.manifest.desc.Digest)
	if got, want := m.list(dir), []string{"config.json", "layers", "manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("the other repository's image has %q, want %q", got, want)
	}
	run(t, "ls", "-lR", m.path(dir))
	if got := src.requests(); len(got) > 0 {
		t.Errorf("a walk asked %q", got)
	}
	m.wantFile(dir+"/rootfs/a", []byte("a\n"))

	const without = "reg.example/team/without" // that layer
	lacking := src.add(without, im.manifest.desc.MediaType, im.manifest.content)
	src.add(without, ocispec.MediaTypeImageConfig, src.get(im.manifest.loc, digestOf([]byte(`{"architecture":"amd64","os":"linux"}`))).content)
	if _, err := m.read(m.path(without + "@" + string(lacking.desc.Digest) + "/rootfs/a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file of a layer that the repository lacks, and another one has: %v, want EIO", err)
	}
}

// TestLargeFilePasses has the kernel itself read a large file that is here, all who open
// it at a time alike.
func TestLargeFilePasses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has files read by the kernel itself")
	}
	src := newSource(t)
	large := string(content(5, 3<<20+5))
	im := addFiles(t, src, gzipped(t, testlayer.Reg("large", large), testlayer.Reg("small", "small")))
	f, err := os.CreateTemp(t.TempDir(), "blob-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(large); err != nil {
		t.Fatal(err)
	}
	src.file = f
	m := mountSource(t, src, nil)
	read := readers(m, im.dir+"/rootfs/large", len(large))
	for range 4 {
		if got, err := read(); err != nil || !bytes.Equal(got, []byte(large)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if s := m.Stats(); s.Passed == 0 || s.Requests["read"].Count > 0 {
		t.Errorf("%d opens were passed through, and %d reads came here, want none", s.Passed, s.Requests["read"].Count)
	}
}

// TestIndexOfOtherTrust wants a tree not to be listed whose layer has an index by
// another word: to look at it would have all of the layer fetched.
func TestIndexOfOtherTrust(t *testing.T) {
	src := newSource(t)
	l := estargz(t, testlayer.Reg("a", "a\n"))
	vouched := addFiles(t, src, l)
	l.annotations = nil
	plain := addFiles(t, src, l)
	mountSource(t, src, nil).wantFile(vouched.dir+"/rootfs/a", []byte("a\n"))
	for name, c := range map[string]struct {
		opts *fs.Options
		im   files
	}{"another descriptor": {nil, plain}, "no trust": {&fs.Options{DistrustTOC: true}, vouched}} {
		m := mountSource(t, src, c.opts)
		m.list(c.im.dir)
		src.requests()
		if got, want := m.list(c.im.dir), []string{"config.json", "layers", "manifest.json"}; !slices.Equal(got, want) {
			t.Errorf("%s: the image has %q, want %q", name, got, want)
		}
		m.wantFile(c.im.dir+"/rootfs/a", []byte("a\n"))
		if got := m.list(c.im.dir); !slices.Contains(got, "rootfs") {
			t.Errorf("%s: once it was read the image has %q", name, got)
		}
	}
}

// TestUpperDecides wants a path that the upper layer decides to be answered while the
// lower one does not come, and who waits for that to be interrupted.
func TestUpperDecides(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src,
		gzipped(t, testlayer.Dir("etc"), testlayer.Reg("etc/low", "low\n")),
		gzipped(t, testlayer.Dir("etc"), testlayer.Reg("etc/up", "up\n"), testlayer.Reg("etc/.wh.gone", "")))
	im.layers[0].gate()
	m := mountSource(t, src, nil)
	root := m.path(im.dir + "/rootfs")
	m.wantFile(im.dir+"/rootfs/etc/up", []byte("up\n"))
	m.wantNone(im.dir + "/rootfs/etc/gone")
	stuck := exec.Command("cat", root+"/etc/low")
	if err := stuck.Start(); err != nil {
		t.Fatal(err)
	}
	im.layers[0].waitFor(t, func(b *blob) bool { return b.waiting > 0 })
	m.wantFile(im.dir+"/rootfs/etc/up", []byte("up\n"))
	stuck.Process.Signal(os.Interrupt)
	wantExit(t, stuck)
	im.layers[0].release(0, 1)
	m.wantFile(im.dir+"/rootfs/etc/low", []byte("low\n"))
}

// TestBadLayers wants an image with a layer that can't be read, or is another one
// than the config says, to be an error that the log explains, and nothing else.
func TestBadLayers(t *testing.T) {
	src := newSource(t)
	good := gzipped(t, testlayer.Reg("a", "a\n"))
	for name, l := range map[string]packed{
		"no layer":    {ocispec.MediaTypeImageLayerGzip, content(1, 5000), nil},
		"no tar":      {ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, content(2, 5000)), nil},
		"cut":         {ocispec.MediaTypeImageLayerGzip, good.blob[:len(good.blob)-9], nil},
		"an odd type": {ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, append(testlayer.Raw("x", 'Z', nil), make([]byte, 1024)...)), nil},
		"a hard link": gzipped(t, testlayer.Dir("a"), testlayer.Link("b", "a")),
	} {
		im := addFiles(t, src, good, l)
		m := mountSource(t, src, nil)
		if _, err := m.read(m.path(im.dir + "/rootfs/a")); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", name, err)
		}
		if log := m.log.String(); !strings.Contains(log, string(im.layers[1].desc.Digest)) {
			t.Errorf("%s: the log does not say which layer:\n%s", name, log)
		}
		m.wantFile(im.dir+"/layers/0/a", []byte("a\n"))
	}
	src = newSource(t)
	im := addFilesAs(t, src, fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromString("another")), good)
	m := mountSource(t, src, nil)
	if _, err := m.read(m.path(im.dir + "/rootfs/a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("another diffID: %v, want EIO", err)
	}
}

// TestLackingLayer wants a name that a layer decides which the registry lacks to be an
// error, and not to be absent, now and once the layer is there.
func TestLackingLayer(t *testing.T) {
	src := newSource(t)
	im := addFiles(t, src, gzipped(t, testlayer.Reg("low", "low\n")), gzipped(t, testlayer.Reg("up", "up\n")))
	lacking := key(im.layers[0].loc, im.layers[0].desc.Digest)
	src.set(func(s *source) { delete(s.blobs, lacking) })
	m := mountSource(t, src, nil)
	low := m.path(im.dir + "/rootfs/low")
	m.wantFile(im.dir+"/rootfs/up", []byte("up\n"))
	if _, err := m.read(low); !errors.Is(err, syscall.EIO) {
		t.Errorf("a name of a layer that is not there: %v, want EIO", err)
	}
	src.set(func(s *source) { s.blobs[lacking] = im.layers[0] })
	ctx := within(t, timeLimit)
	for {
		_, err := m.read(low)
		if err == nil {
			break
		}
		if errors.Is(err, syscall.ENOENT) || ctx.Err() != nil {
			t.Fatalf("once the layer is there: %v", err)
		}
	}
}

// TestUnfit wants a file that the kernel would not read itself to be read here, by all
// who open it at once.
func TestUnfit(t *testing.T) {
	src := newSource(t)
	large := string(content(5, 3<<20+5))
	im := addFiles(t, src, gzipped(t, testlayer.Reg("large", large)))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	src.file = r
	m := mountSource(t, src, nil)
	for range 8 {
		read := readers(m, im.dir+"/rootfs/large", len(large))
		for range 4 {
			if got, err := read(); err != nil || !bytes.Equal(got, []byte(large)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
	}
	if n := strings.Count(m.log.String(), "no passthrough for this file"); n != 1 {
		t.Errorf("the log says %d times that the kernel does not take it", n)
	}
}

// wantFile is wantRead of a path below the mount.
func (m *mount) wantFile(path string, want []byte) {
	m.tb.Helper()
	m.wantRead(m.path(path), want)
}
