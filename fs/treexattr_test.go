package fs_test

import (
	"archive/tar"
	"errors"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
)

// TestOrigin wants every file and directory of a tree to say where it comes from, who
// asks by name, and what an image says of that itself to be neither told nor listed.
func TestOrigin(t *testing.T) {
	src := newSource(t)
	forged := testlayer.Reg("etc/a", "one\n")
	forged.PAXRecords = map[string]string{
		"SCHILY.xattr.user.distfs.layer": "forged", "SCHILY.xattr.user.distfs.note": "forged", "SCHILY.xattr.user.note": "own",
		"SCHILY.xattr.trusted.overlay.redirect": "/etc",
	}
	special := func(name string, kind byte) testlayer.File {
		return testlayer.File{Header: tar.Header{Typeflag: kind, Name: name, Devmajor: 7, Devminor: 1}}
	}
	im := addFiles(t, src, estargz(t, testlayer.Dir("etc"), forged, testlayer.Symlink("l", "etc/a"), special("fifo", tar.TypeFifo)),
		gzipped(t, special("disk", tar.TypeBlock), special("tty", tar.TypeChar), testlayer.Reg("made/up", ""), testlayer.Reg(".wh.gone", "")))
	m := mountSource(t, src, nil)
	root := im.dir + "/rootfs"
	for _, l := range []string{"/layers/0", "/layers/1", "/rootfs"} {
		m.list(im.dir + l)
	}
	xattr := func(path, name string) (string, error) {
		return call[[2]string, string](m.agent, "Xattr", [2]string{m.path(path), name})
	}
	for _, c := range []struct {
		path, kind string
		layer      int
		view       string
	}{
		{root + "/etc", "directory", 0, "toc"},
		{root + "/etc/a", "file", 0, "toc"},
		{root + "/l", "link", 0, "toc"},
		{root + "/fifo", "fifo", 0, "toc"},
		{root + "/disk", "device", 1, "tar"},
		{root + "/tty", "device", 1, "tar"},
		{root + "/made", "directory", 1, "tar"},
		{root + "/made/up", "file", 1, "tar"},
		{im.dir + "/layers/0/etc/a", "file", 0, "toc"},
		{im.dir + "/layers/1/disk", "device", 1, "tar"},
	} {
		want := im.layers[c.layer].desc.Digest
		got := m.info(t, src, c.path)
		if got.Kind != c.kind || got.Layer != want || got.View != c.view || got.Locator != repo {
			t.Errorf("Stat(%s) = %+v, want a %s of %s, by its %s", c.path, got, c.kind, want, c.view)
		}
		if c.kind != "file" && c.kind != "directory" {
			continue // the kernel has no user attributes of these
		}
		if got, err := xattr(c.path, "user.distfs.layer"); got != string(want) {
			t.Errorf("user.distfs.layer of %s is %q, %v, want %q", c.path, got, err, want)
		}
		if got := m.view(c.path); got != c.view {
			t.Errorf("user.distfs.view of %s is %q, want %q", c.path, got, c.view)
		}
		if list, err := xattr(c.path, ""); err != nil || strings.Contains(list, "user.distfs.") {
			t.Errorf("%s has the attributes %q, %v, want none of ours", c.path, list, err)
		}
	}
	if got := m.info(t, src, root+"/etc/a"); got.Digest != digestOf([]byte("one\n")) || got.Size != 4 {
		t.Errorf("Stat of a file = %+v", got)
	}
	if _, err := xattr(root+"/etc/a", "user.distfs.note"); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("an attribute that the image has in our place: %v, want ENODATA", err)
	}
	if got, err := xattr(root+"/etc/a", ""); got != "trusted.overlay.redirect\x00user.note\x00" {
		t.Errorf("listed are %q, %v", got, err)
	}
	if got, err := xattr(im.dir+"/layers/0/etc/a", ""); got != "user.note\x00" {
		t.Errorf("of a lower directory listed are %q, %v: what would be an order to overlayfs is not", got, err)
	}
}
