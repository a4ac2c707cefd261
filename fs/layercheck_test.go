package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/internal/testlayer"
)

// TestHidingTOC wants a layer whose table of contents hides a file of its tar to be
// an error once all of it is here, and no other layer to suffer by it.
func TestHidingTOC(t *testing.T) {
	src := newSource(t)
	whole := gzipped(t, testlayer.Reg("seen", "seen\n"), testlayer.Reg("hidden", "hidden\n"))
	toc := fmt.Sprintf(`{"version":1,"entries":[{"name":"seen","type":"reg","size":5,"modtime":"2023-11-14T22:13:20Z","mode":420,"offset":0,"digest":%q,"chunkDigest":%q}]}`,
		digestOf([]byte("seen\n")), digestOf([]byte("seen\n")))
	b, annotations := testlayer.WithEStargzTOC(t, whole.blob, []byte(toc), 0)
	im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, annotations}, estargz(t, testlayer.Reg("other", "other\n")))
	other := addFiles(t, src, estargz(t, testlayer.Reg("other", "other\n")))
	m := mountSource(t, src, nil)
	root := im.dir + "/rootfs"
	if got, want := m.list(root), []string{"other", "seen"}; !slices.Equal(got, want) {
		t.Fatalf("the table has %q, want %q", got, want)
	}
	im.layers[0].complete(t)
	m.wantFile(root+"/other", []byte("other\n"))
	_, _ = m.read(m.path(root + "/seen")) // which has it looked at
	awaitEIO(t, m, root+"/nothing")
	if _, err := m.read(m.path(root + "/seen")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file of that layer: %v, want EIO", err)
	}
	for ctx := within(t, timeLimit); ; { // until the kernel has dropped the listing that it keeps
		_, err := call[string, []string](m.agent, "List", m.path(root))
		if errors.Is(err, syscall.EIO) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the root's list: %v, want EIO", err)
		}
	}
	m.wantFile(other.dir+"/rootfs/other", []byte("other\n"))
	if n := strings.Count(m.log.String(), "is not what its table of contents says"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}

	// The next mount serves nothing of it, before it was looked at.
	next := mountSource(t, src, nil)
	if _, err := next.read(next.path(root + "/seen")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file of that layer in the next mount: %v, want EIO", err)
	}

	distrusts := mountSource(t, src, &fs.Options{DistrustTOC: true})
	if got, want := distrusts.list(root), []string{"hidden", "other", "seen"}; !slices.Equal(got, want) {
		t.Errorf("the tar has %q, want %q", got, want)
	}
}

// TestOtherDescriptor wants a table of contents that one descriptor of a layer vouches
// for to be nothing to another image, whose descriptor does not.
func TestOtherDescriptor(t *testing.T) {
	src := newSource(t)
	whole := gzipped(t, testlayer.Reg("seen", "seen\n"), testlayer.Reg("hidden", "hidden\n"))
	toc := fmt.Sprintf(`{"version":1,"entries":[{"name":"seen","type":"reg","size":5,"mode":420,"offset":0,"innerOffset":1536,"digest":%q,"chunkDigest":%q}]}`,
		digestOf([]byte("seen\n")), digestOf([]byte("seen\n")))
	b, annotations := testlayer.WithEStargzTOC(t, whole.blob, []byte(toc), 0)
	vouched := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, annotations})
	plain := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, nil})
	m := mountSource(t, src, nil)
	if got, want := m.list(vouched.dir+"/rootfs"), []string{"seen"}; !slices.Equal(got, want) {
		t.Errorf("by its table it has %q, want %q", got, want)
	}
	if got, want := m.list(plain.dir+"/rootfs"), []string{"hidden", "seen"}; !slices.Equal(got, want) {
		t.Errorf("by its tar it has %q, want %q", got, want)
	}
	m.wantFile(vouched.dir+"/rootfs/seen", []byte("seen\n")) // by other spans than those of the tar
	m.wantFile(plain.dir+"/rootfs/hidden", []byte("hidden\n"))
	next := mountSource(t, src, nil) // which finds what the first one kept
	if got, want := next.list(plain.dir+"/rootfs"), []string{"hidden", "seen"}; !slices.Equal(got, want) {
		t.Errorf("in the next mount it has %q, want %q", got, want)
	}
}

// TestUnreadableTar wants a layer to be an error once all of it is here if its tar can't be
// held against its table of contents, for what it has: a file could hide behind that.
func TestUnreadableTar(t *testing.T) {
	seen := testlayer.Tar(t, testlayer.Reg("seen", "seen\n"))
	for name, hides := range map[string][]byte{
		"an odd type":   append(testlayer.Raw("x", 'Z', nil), testlayer.Tar(t, testlayer.Reg("hidden", ""))...),
		"another table": testlayer.Tar(t, testlayer.Reg("stargz.index.json", "{}"), testlayer.Reg("hidden", "")),
		"nonsense":      bytes.Repeat([]byte("nonsense"), 1000),
	} {
		src := newSource(t)
		whole := testlayer.Gzip(t, append(seen[:len(seen)-1024:len(seen)-1024], hides...))
		toc := fmt.Sprintf(`{"version":1,"entries":[{"name":"seen","type":"reg","size":5,"mode":420,"offset":0,"digest":%q,"chunkDigest":%[1]q}]}`, digestOf([]byte("seen\n")))
		b, annotations := testlayer.WithEStargzTOC(t, whole, []byte(toc), 0)
		im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, annotations})
		m := mountSource(t, src, nil)
		root := im.dir + "/rootfs"
		if got, want := m.list(root), []string{"seen"}; !slices.Equal(got, want) {
			t.Fatalf("%s: the table has %q, want %q", name, got, want)
		}
		im.layers[0].complete(t)
		_, _ = m.read(m.path(root + "/seen")) // which has it looked at
		awaitEIO(t, m, root+"/nothing")
		if n := strings.Count(m.log.String(), "is not what its table of contents says"); n != 1 {
			t.Errorf("%s: the log says it %d times", name, n)
		}
	}
}

// awaitEIO returns when to look a path up is EIO.
func awaitEIO(tb testing.TB, m *mount, path string) {
	tb.Helper()
	ctx := within(tb, timeLimit)
	for i := 0; ; i++ {
		_, err := m.read(m.path(fmt.Sprint(path, i)))
		if errors.Is(err, syscall.EIO) {
			return
		}
		if ctx.Err() != nil {
			tb.Fatalf("%s: %v, want EIO", path, err)
		}
	}
}

// TestHiddenNames wants a name that was not there, because a table of contents hid it,
// not to be absent for ever once that is found out, nor one that was there to be read.
func TestHiddenNames(t *testing.T) {
	src := newSource(t)
	whole := gzipped(t, testlayer.Reg("seen", "seen\n"), testlayer.Reg("hidden", "hidden\n"))
	toc := fmt.Sprintf(`{"version":1,"entries":[{"name":"seen","type":"reg","size":5,"modtime":"2023-11-14T22:13:20Z","mode":420,"offset":0,"digest":%q,"chunkDigest":%q}]}`,
		digestOf([]byte("seen\n")), digestOf([]byte("seen\n")))
	b, annotations := testlayer.WithEStargzTOC(t, whole.blob, []byte(toc), 0)
	im := addFiles(t, src, packed{whole.mediaType, b, annotations})
	m := mountSource(t, src, nil)
	root := im.dir + "/rootfs"
	m.wantNone(root + "/hidden")
	m.stat(m.path(root + "/seen"))
	im.layers[0].complete(t)
	_, _ = m.read(m.path(root + "/seen")) // which has it looked at
	awaitEIO(t, m, root+"/nothing")
	ctx := within(t, timeLimit)
	for _, name := range []string{"/hidden", "/seen"} {
		for {
			_, err := call[string, syscall.Stat_t](m.agent, "Lstat", m.path(root+name))
			if errors.Is(err, syscall.EIO) {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: %v, want EIO", name, err)
			}
		}
	}
}
