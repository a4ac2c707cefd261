package e2e_test

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"distfs/internal/testlayer"
)

// debianTars makes the tars of a Debian image of four layers in dir: the essential
// packages, what installing two more changes, and two layers by which someone did
// all that an image can have.
func debianTars(t *testing.T, dir string) []string {
	t.Helper()
	base, installed := filepath.Join(dir, "0.tar"), filepath.Join(dir, "installed.tar")
	bootstrap(t, base, installed)
	tars := []string{base}
	for i, files := range [][]testlayer.File{difference(t, base, installed), changesLayer(t), laterLayer()} {
		tars = append(tars, filepath.Join(dir, fmt.Sprintf("%d.tar", i+1)))
		writeFile(t, tars[i+1], testlayer.Tar(t, files...))
	}
	return tars
}

// bootstrap has Debian's packages made into a root file system, and writes tars of
// it before and after further packages are installed.
func bootstrap(t *testing.T, before, after string) {
	t.Helper()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Fatal(err)
	}
	save := func(to string) string {
		save := []string{"tar", "-b1", "--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", `"$1"`, "-cf", "'" + to + "'"}
		for _, without := range []string{"proc", "sys", "dev", "tmp/*", "var/cache/apt", "var/lib/apt/lists"} {
			save = append(save, "--exclude='./"+without+"'")
		}
		return strings.Join(append(save, "."), " ")
	}
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--variant=essential", "--format=null", "--include=iputils-ping,libcap2-bin",
		`--aptopt=Acquire::Languages "none"`,
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--essential-hook="+save(before), "--customize-hook="+save(after), "bookworm", "/dev/null")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	if t.Context().Err() != nil {
		t.Fatal(err)
	}
	t.Logf("made of this machine's own packages, for mmdebstrap: %v\n%s", err, out)
	ownPackages(t, before)
	ownPackages(t, after, "curl", "jq", "skopeo")
}

// ownPackages writes a tar of the essential packages that this machine has, and of
// further ones: where there is no mirror to install from, that is a Debian too.
func ownPackages(t *testing.T, to string, further ...string) {
	t.Helper()
	script := `dpkg-query -W -f '${Essential} ${Package}\n' | sed -n 's/^yes //p' | xargs dpkg -L ` + strings.Join(further, " ") + ` |
		sort -u | sed 's,^/,./,' | (cd / && while IFS= read -r f; do [ ! -e "$f" ] && [ ! -L "$f" ] || printf '%s\n' "$f"; done) |
		tar -b1 --format=posix --numeric-owner --xattrs '--xattrs-include=*' --no-recursion -C / -cf "$0" -T -`
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script, to).CombinedOutput(); err != nil {
		t.Fatalf("a tar of this machine's packages: %v\n%s", err, out)
	}
}

// difference returns the entries that make what the tar before has what after has.
func difference(t *testing.T, before, after string) []testlayer.File {
	t.Helper()
	old, changed := make(map[string]string), []testlayer.File(nil)
	eachEntry(t, before, func(f testlayer.File) { old[f.Name] = fingerprint(f) })
	eachEntry(t, after, func(f testlayer.File) {
		if was, had := old[f.Name]; !had || was != fingerprint(f) {
			changed = append(changed, f)
		}
		delete(old, f.Name)
	})
	for _, name := range slices.Sorted(maps.Keys(old)) {
		clean := path.Clean(name)
		if _, with := old[path.Dir(clean)+"/"]; !with {
			changed = append(changed, whiteout(clean))
		}
	}
	return changed
}

func whiteout(name string) testlayer.File {
	return testlayer.Reg(path.Join(path.Dir(name), ".wh."+path.Base(name)), "")
}

// fingerprint is the same for entries that make the same file.
func fingerprint(f testlayer.File) string {
	return fmt.Sprintf("%c %q %o %d:%d %d %q %x", f.Typeflag, f.Linkname, f.Mode, f.Uid, f.Gid, f.ModTime.UnixNano(), f.PAXRecords, sha256.Sum256([]byte(f.Content)))
}

func eachEntry(t *testing.T, name string, each func(testlayer.File)) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(hdr.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, "SCHILY.xattr.") }) // the rest is in the fields
		hdr.Format = tar.FormatPAX
		hdr.AccessTime, hdr.ChangeTime = time.Time{}, time.Time{}
		each(testlayer.File{Header: *hdr, Content: string(content)})
	}
}

// capNetRaw is the value of security.capability of who may send raw packets.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// manyFiles is how many files the directory opt/many has.
const manyFiles = 5000

// changesLayer has what is rare in what packages have, and changes every kind of
// file into another.
func changesLayer(t *testing.T) []testlayer.File {
	t.Helper()
	reg, dir, symlink, link := testlayer.Reg, testlayer.Dir, testlayer.Symlink, testlayer.Link
	files := []testlayer.File{
		with(dir("dev/"), at(1_600_000_000, 0)), with(dir("proc/"), mode(0o555)), with(dir("sys/"), mode(0o555)),
		device(tar.TypeChar, "dev/null", 1, 3), device(tar.TypeChar, "dev/console", 5, 1), device(tar.TypeBlock, "dev/loop300", 7, 300), device(tar.TypeBlock, "dev/nvme", 259, 1<<19),
		device(tar.TypeFifo, "dev/initctl", 0, 0), device(tar.TypeFifo, "dev/fifo", 0, 0),

		// What is below, replaced: a file and a directory gone, a directory with nothing of what
		// it had, a file for a directory, directories for a file and a link, links for both.
		whiteout("etc/issue"), whiteout("usr/share/info"), whiteout("usr/share/nothing-there"),
		dir("usr/share/doc/"), reg("usr/share/doc/.wh..wh..opq", ""), reg("usr/share/doc/new", "new"),
		with(reg("usr/share/common-licenses", "a file now"), mode(0o600)),
		with(dir("etc/debian_version/"), owner(7, 8)), reg("etc/debian_version/12", "12"),
		dir("etc/os-release/"), reg("etc/os-release/12", "12"),
		symlink("usr/share/lintian", "menu"), symlink("etc/issue.net", "/etc/debian_version/12"),
		dir("usr/share/menu/"), reg("usr/share/menu/bash", "changed"), reg("usr/share/menu/sh", "new"),

		// Entries with attributes that few files have.
		with(reg("usr/bin/ping", "pong"), mode(0o755), xattr("security.capability", capNetRaw)),
		with(reg("usr/bin/set", "#!/bin/sh\n"), mode(0o6755), owner(0, 42)),
		with(dir("srv/shared/"), mode(0o3777), owner(70_000, 3_000_000_000)),
		with(reg("srv/shared/far", "owner"), owner(4_000_000_000, 65_536), mode(0)),
		with(reg("srv/noted", "notes"), xattr("user.empty-ish", "\x00"), xattr("user.a", strings.Repeat("a", 1000)), xattr("trusted.b", "\xff\x00b")),
		with(dir("srv/noted.d/"), xattr("user.dir", "yes")),
		with(reg("srv/old", "before 1970"), at(-1_000_000, 250_000_000)), with(dir("srv/older/"), at(-2_000_000_000, 0)),
		with(reg("srv/fine", "a nanosecond"), at(1_700_000_000, 1)), with(reg("srv/finer", "almost"), at(1_700_000_000, 999_999_999)),
		with(symlink("srv/link", "noted"), at(1_500_000_000, 5), owner(5, 6)),
		symlink("srv/nowhere", "/absent/\u00fcber/"+strings.Repeat("x", 300)), symlink("srv/loop", "loop"),
		reg("srv/"+strings.Repeat("n", 255), "255 bytes"), reg("srv/\u00e4\u2713 \n\t\"\\", "a name to quote"),
		reg("srv/"+strings.Repeat("deep-directory/", 20)+"pax", "a long name"),
		withFormat(reg("srv/"+strings.Repeat("gnu-directory/", 12)+"gnu", "a long name of GNU"), tar.FormatGNU),
		with(reg("etc/secret", "of root"), mode(0o640), owner(0, 42)), reg("srv/empty", ""), reg("srv/zeros", string(make([]byte, 3<<20+5))),

		// Hard links, to what stands before them.
		with(reg("srv/one", "one inode"), at(1_650_000_000, 7)), link("srv/two", "srv/one"), link("usr/share/menu/three", "srv/two"),
		device(tar.TypeFifo, "srv/pipe", 0, 0), link("srv/pipe2", "srv/pipe"),

		// Directories that no entry is of: here, and in the layers below.
		reg("srv/made/up/file", "its parents have no entries"), reg("var/lib/dpkg/here", "its parents are below"),
	}
	files = append(files, reg("srv/large", string(noise(t, 77, 9<<20))+strings.Repeat("compresses well. ", 1<<20)))
	files = append(files, with(dir("opt/many/"), at(1_400_000_000, 0)))
	for i := range manyFiles {
		files = append(files, with(reg(fmt.Sprintf("opt/many/%d", i), fmt.Sprint("file ", i)), at(1_400_000_000+int64(i), 0)))
	}
	return files
}

// laterLayer changes what the layer below it made.
func laterLayer() []testlayer.File {
	reg, dir := testlayer.Reg, testlayer.Dir
	return []testlayer.File{
		whiteout("srv/two"), whiteout("opt/many/17"), whiteout("dev/fifo"), whiteout("srv/noted.d"), dir("srv/noted.d/"), // gone, and there again
		with(dir("etc/debian_version/"), mode(0o711)), reg("etc/debian_version/13", "13"),
		reg("usr/share/lintian", "no link"), reg("dev/console", "no device"), dir("dev/loop300/"), reg("dev/loop300/file", ""),
		dir("srv/shared/"), reg("srv/shared/.wh..wh..opq", ""), reg("etc/issue", "there again"),
		with(reg("usr/bin/ping", "pong"), mode(0o755)), // without its capability
		reg("usr/share/doc/new", "newer"), reg("srv/made/up/other", "beside what is below"), whiteout("usr/share/doc/absent"),
	}
}

// An edit is what with does to an entry.
type edit func(*tar.Header)

func with(f testlayer.File, edits ...edit) testlayer.File {
	for _, c := range edits {
		c(&f.Header)
	}
	return f
}

func mode(m int64) edit { return func(h *tar.Header) { h.Mode = m } }

func owner(uid, gid int) edit { return func(h *tar.Header) { h.Uid, h.Gid = uid, gid } }

func at(sec, nsec int64) edit {
	return func(h *tar.Header) { h.ModTime = time.Unix(sec, nsec) }
}

func xattr(name, value string) edit {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
}

func withFormat(f testlayer.File, format tar.Format) testlayer.File {
	f.Format = format
	f.ModTime = testlayer.Time.Truncate(time.Second) // which GNU's has
	return f
}

func device(kind byte, name string, major, minor int64) testlayer.File {
	return testlayer.File{Header: tar.Header{Typeflag: kind, Name: name, Devmajor: major, Devminor: minor, Mode: 0o660, Gid: 6}}
}
