package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/internal/testlayer"
	"distfs/layer"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read returns all entries, and of files the content.
func read(r io.Reader, opts *layer.Options) (entries []layer.Entry, contents []string, err error) {
	l, err := layer.NewReader(r, opts)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	for {
		e, err := l.Next()
		if errors.Is(err, io.EOF) {
			return entries, contents, nil
		}
		if err != nil {
			return entries, contents, err
		}
		b, err := io.ReadAll(l)
		if err != nil {
			return entries, contents, err
		}
		entries, contents = append(entries, *e), append(contents, string(b))
	}
}

func names(entries []layer.Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func TestNames(t *testing.T) {
	for given, want := range map[string]string{
		"a": "a", "./a": "a", "/a": "a", "//a//b": "a/b", "a/./b": "a/b", "a/../b": "b",
		"../../etc/passwd": "etc/passwd", "/../a": "a", "a/b/": "a/b", "..": ".", "./": ".", "": ".", "/": ".",
		strings.Repeat("x", 255): strings.Repeat("x", 255),
		"..a/b..":                "..a/b..", "a\nb": "a\nb", "\xff": "\xff", ".whale": ".whale",
		strings.Repeat("d/", 511) + "e": strings.Repeat("d/", 511) + "e",
	} {
		hdr := testlayer.Dir(given)
		if strings.Contains(given, "\xff") {
			hdr.Format = tar.FormatGNU
			hdr.ModTime = time.Unix(1, 0)
		}
		entries, _, err := read(bytes.NewReader(testlayer.Tar(t, hdr)), nil)
		if err != nil || len(entries) != 1 || entries[0].Name != want || entries[0].Kind != layer.Dir {
			t.Errorf("%.100q: entries %+v, error %v, want one directory %.100q", given, entries, err, want)
		}
	}
}

func TestWhiteouts(t *testing.T) {
	entries, _, err := read(bytes.NewReader(testlayer.Tar(t,
		testlayer.Reg("a/.wh.gone", ""), testlayer.Reg(".wh.x", "content"), testlayer.Reg("a/b/.wh..wh..opq", ""), testlayer.Reg(".wh..wh..opq", ""),
		testlayer.Reg(".wh....", ""), // hides "..."
		testlayer.Reg(".wh..wh.aufs", ""), testlayer.Dir(".wh..wh.plnk"), testlayer.Reg(".wh..wh.plnk/12.34", "x"), testlayer.Dir("a/.wh..wh.orph"),
	)), nil)
	want := []layer.Entry{
		{Kind: layer.Whiteout, Name: "a/gone"},
		{Kind: layer.Whiteout, Name: "x"},
		{Kind: layer.Opaque, Name: "a/b"},
		{Kind: layer.Opaque, Name: "."},
		{Kind: layer.Whiteout, Name: "..."},
	}
	if diff := cmp.Diff(want, entries); diff != "" || err != nil {
		t.Errorf("error %v, entries (want, got):\n%s", err, diff)
	}
}

// TestAttributes reads what tars of each format say of a file.
func TestAttributes(t *testing.T) {
	long := strings.Repeat("directory/", 30) + "file"
	old := time.Unix(5, 0)
	for _, c := range []struct {
		hdr  tar.Header
		want layer.Entry
	}{
		{
			tar.Header{
				Typeflag: tar.TypeReg, Name: long, Mode: 0o104755, Uid: 1 << 22, Gid: 100, Uname: "other",
				ModTime: time.Unix(-5, 250_000_000), AccessTime: time.Unix(7, 1),
				PAXRecords: map[string]string{
					"SCHILY.xattr.user.a": "1\x00\n=2", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "LIBARCHIVE.xattr.user.b": "Mg",
				}, Format: tar.FormatPAX,
			},
			layer.Entry{
				Kind: layer.File, Name: long, Size: 4, Mode: 0o4755, UID: 1 << 22, GID: 100,
				ModTime: time.Unix(-5, 250_000_000), AccessTime: time.Unix(7, 1),
				Xattrs: map[string]string{"user.a": "1\x00\n=2", "security.capability": "\x01\x00\x00\x02"},
			},
		},
		{
			tar.Header{Typeflag: tar.TypeReg, Name: long, Mode: 0o1600, ModTime: old, Format: tar.FormatGNU},
			layer.Entry{Kind: layer.File, Name: long, Size: 4, Mode: 0o1600, ModTime: old},
		},
		{
			tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../../" + long, ModTime: old, Format: tar.FormatGNU},
			layer.Entry{Kind: layer.Symlink, Name: "l", Link: "../../" + long, ModTime: old},
		},
		{
			tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "../../" + long, ModTime: old, Format: tar.FormatPAX},
			layer.Entry{Kind: layer.Hardlink, Name: "h", Link: long, ModTime: old},
		},
		{
			tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3, Mode: 0o666, ModTime: old, Format: tar.FormatUSTAR},
			layer.Entry{Kind: layer.CharDevice, Name: "c", Major: 1, Minor: 3, Mode: 0o666, ModTime: old},
		},
		{
			tar.Header{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 8, Devminor: 256, ModTime: old, Format: tar.FormatUSTAR},
			layer.Entry{Kind: layer.BlockDevice, Name: "b", Major: 8, Minor: 256, ModTime: old},
		},
		{
			tar.Header{Typeflag: tar.TypeFifo, Name: "f", ModTime: old, Format: tar.FormatUSTAR},
			layer.Entry{Kind: layer.Fifo, Name: "f", ModTime: old},
		},
	} {
		f := testlayer.File{Header: c.hdr}
		if c.hdr.Typeflag == tar.TypeReg {
			f.Content = "data"
		}
		entries, contents, err := read(bytes.NewReader(testlayer.Tar(t, f)), nil)
		if err != nil || len(entries) != 1 || contents[0] != f.Content {
			t.Fatalf("%.20q: %d entries, contents %q, error %v", c.hdr.Name, len(entries), contents, err)
		}
		if diff := cmp.Diff(c.want, entries[0]); diff != "" {
			t.Errorf("%.20q: (want, got)\n%s", c.hdr.Name, diff)
		}
	}
}

// TestSparse reads what GNU tar makes of a file with holes.
func TestSparse(t *testing.T) {
	for _, format := range []string{"--format=gnu", "--format=pax"} {
		cmd := exec.Command("sh", "-c", "truncate -s 3M f && printf x | dd of=f bs=1 seek=1000000 conv=notrunc status=none && tar -cS "+format+" f")
		cmd.Dir = t.TempDir()
		b, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 1<<20 {
			t.Fatalf("tar %s made %d bytes, want a sparse file of few", format, len(b))
		}
		want := make([]byte, 3<<20)
		want[1000000] = 'x'
		entries, contents, err := read(bytes.NewReader(b), nil)
		if err != nil || len(entries) != 1 || entries[0].Name != "f" || entries[0].Size != 3<<20 || contents[0] != string(want) {
			t.Errorf("%s: entries %+v, error %v, want 3 MiB of zeros with one x", format, entries, err)
		}
	}
}

// TestFormats reads one tar in all that it may come in.
func TestFormats(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Dir("d"), testlayer.Reg("d/f", strings.Repeat("content ", 1000)))
	gz := func(b []byte) []byte { return testlayer.Gzip(t, b) }
	zst := func(b []byte) []byte { return testlayer.Zstd(t, b) }
	skip := []byte("\x5e\x2a\x4d\x18\x05\x00\x00\x00skip!")
	for name, b := range map[string][]byte{
		"tar": plain, "gzip": gz(plain), "zstd": zst(plain),
		"gzip of members": bytes.Join([][]byte{gz(plain[:100]), gz(nil), gz(plain[100:1000]), gz(plain[1000:])}, nil),
		"zstd of frames":  bytes.Join([][]byte{skip, zst(plain[:700]), skip, zst(plain[700:]), skip}, nil),
		"padded":          append(slices.Clip(plain), make([]byte, 10240)...),
		"no end":          plain[:len(plain)-1024],
	} {
		entries, contents, err := read(bytes.NewReader(b), nil)
		if diff := cmp.Diff([]string{"d", "d/f"}, names(entries)); diff != "" || err != nil || contents[1] != strings.Repeat("content ", 1000) {
			t.Errorf("%s: error %v, names (want, got) %s", name, err, diff)
		}
	}
	for name, b := range map[string][]byte{"tar": plain[:len(plain)-1400], "gzip": gz(plain), "zstd": zst(plain)} {
		for _, n := range []int{0, 1, 5, len(b) / 2, len(b) - 9, len(b) - 1} {
			if _, _, err := read(bytes.NewReader(b[:n]), nil); err == nil {
				t.Errorf("%s cut at %d of %d: no error", name, n, len(b))
			}
		}
	}
	if _, _, err := read(bytes.NewReader(gz(plain)[:50]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a gzip cut short: error %v, want io.ErrUnexpectedEOF", err)
	}
}

// TestChecksum meets a wrong checksum behind the tar's end.
func TestChecksum(t *testing.T) {
	gz := testlayer.Gzip(t, append(testlayer.Tar(t, testlayer.Reg("f", "x")), make([]byte, 1<<20)...))
	gz[len(gz)-6] ^= 1
	if entries, _, err := read(bytes.NewReader(gz), nil); err == nil {
		t.Errorf("read %v, no error, want one for the checksum", names(entries))
	}
}

// TestMeta leaves out what is none of the image's files: of what is an eStargz its own,
// and of nothing else what has such a name.
func TestMeta(t *testing.T) {
	global := testlayer.File{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}}
	b := testlayer.Tar(t,
		global, testlayer.Reg(".wh..wh.plnk", "x"), testlayer.Reg("./.prefetch.landmark", "\xf0"), testlayer.Reg(".no.prefetch.landmark", "a program"),
		testlayer.Reg("d/stargz.index.json", "a user's"), testlayer.Reg("stargz.index.json", "{}"),
	)
	for toc, want := range map[string][]string{
		"":                               {".prefetch.landmark", ".no.prefetch.landmark", "d/stargz.index.json", "stargz.index.json"},
		digest.FromString("{}").String(): {".no.prefetch.landmark", "d/stargz.index.json"},
	} {
		entries, _, err := read(bytes.NewReader(b), &layer.Options{TOC: toc})
		if diff := cmp.Diff(want, names(entries)); diff != "" || err != nil {
			t.Errorf("toc %q: error %v, names (want, got) %s", toc, err, diff)
		}
	}
	for _, toc := range []string{digest.FromString("[]").String(), "sha256:x"} {
		entries, _, err := read(bytes.NewReader(b), &layer.Options{TOC: toc})
		if _, none := errors.AsType[*layer.TOCError](err); !none || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("toc %q, which is another: names %q, error %v, want a TOCError and EINVAL", toc, names(entries), err)
		}
	}
}
