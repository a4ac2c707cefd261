package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"distfs/internal/testlayer"
	"distfs/layer"
)

// pax is a PAX header with these records, as they stand.
func pax(typeflag byte, records ...string) []byte {
	var all string
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		all += fmt.Sprintf("%d %s\n", n, r)
	}
	return content(testlayer.Raw("pax", typeflag, size(len(all))), all)
}

func size(n int) map[int]string { return map[int]string{124: fmt.Sprintf("%011o\x00", n)} }

// content puts content behind a header.
func content(header []byte, s string) []byte {
	return append(append(bytes.Clone(header), s...), make([]byte, -len(s)&511)...)
}

// TestWeirdTars holds tars that no tool of today writes against what unpacking them
// makes: the tree is the same, or both refuse them.
func TestWeirdTars(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o022))
	raw := testlayer.Raw
	f := func(name, s string) []byte { return content(raw(name, '0', size(len(s))), s) }
	end := make([]byte, 1024)
	base256 := func(b string) string { return "\x80" + strings.Repeat("\x00", 11-len(b)) + b }
	v7 := func(name string, typeflag byte) []byte {
		return raw(name, typeflag, map[int]string{124: "00000000003\x00", 257: strings.Repeat("\x00", 8)})
	}
	with := func(n int, more map[int]string) map[int]string {
		fields := size(n)
		maps.Copy(fields, more)
		return fields
	}
	gnu := map[int]string{257: "ustar  \x00"}
	for name, parts := range map[string][][]byte{
		"v7":                            {content(v7("a", 0), "abc"), v7("d/", 0), f("d/x", "x"), end},
		"v7's directory by its slash":   {v7("d/", 0), f("e", "e"), end},
		"a slash behind a file":         {content(raw("d/", '0', size(3)), "abc"), f("e", "e"), end},
		"a contiguous file":             {content(raw("c", '7', size(3)), "abc"), f("e", "e"), end},
		"old GNU's sparse file":         {content(raw("s", 'S', with(3, map[int]string{257: "ustar  \x00", 386: "00000000005\x0000000000003\x00", 483: "00000000020\x00"})), "abc"), f("e", "e"), end},
		"its map before the last part":  {content(raw("s", 'S', with(3, map[int]string{257: "ustar  \x00", 386: "00000000005\x0000000000002\x00" + "00000000004\x0000000000001\x00", 483: "00000000020\x00"})), "abc"), f("e", "e"), end},
		"its map beyond the end":        {content(raw("s", 'S', with(3, map[int]string{257: "ustar  \x00", 386: "00000000005\x0000000000003\x00", 483: "00000000006\x00"})), "abc"), f("e", "e"), end},
		"its map of less":               {content(raw("s", 'S', with(3, map[int]string{257: "ustar  \x00", 386: "00000000005\x0000000000001\x00", 483: "00000000020\x00"})), "abc"), f("e", "e"), end},
		"GNU's long name":               {content(raw("././@LongLink", 'L', with(6, gnu)), "d/long"), f("short", "s"), end},
		"a long name with a NUL in it":  {content(raw("././@LongLink", 'L', with(6, gnu)), "d/\x00ong"), f("short", "s"), end},
		"two long names":                {content(raw("././@LongLink", 'L', with(1, gnu)), "x"), content(raw("././@LongLink", 'L', with(1, gnu)), "y"), f("short", "s"), end},
		"a long name and a PAX path":    {content(raw("././@LongLink", 'L', with(1, gnu)), "x"), pax('x', "path=y"), f("short", "s"), end},
		"duplicate PAX records":         {pax('x', "path=a", "path=b"), f("c", "c"), end},
		"two PAX headers":               {pax('x', "path=a"), pax('x', "mtime=5.5"), f("c", "c"), end},
		"an empty record":               {pax('x', "path=a", "path="), f("c", "c"), end},
		"a record of the size":          {pax('x', "size=3"), content(raw("a", '0', size(0)), "abc"), f("e", "e"), end},
		"a smaller record of the size":  {pax('x', "size=3"), content(raw("a", '0', size(600)), "abc"), f("e", "e"), end},
		"a negative size":               {pax('x', "size=-3"), f("a", "abc"), end},
		"a size of 2^62":                {pax('x', "size=4611686018427387904"), f("a", "abc"), end},
		"the size of a directory":       {raw("d", '5', size(600)), f("e", "e"), end},
		"a PAX size of a directory":     {pax('x', "size=600"), raw("d", '5', nil), f("e", "e"), end},
		"the size of a link":            {raw("l", '2', with(600, map[int]string{157: "e"})), f("e", "e"), end},
		"a hard link with content":      {f("e", "e"), content(raw("h", '1', with(3, map[int]string{157: "e"})), "abc"), f("g", "g"), end},
		"a fifo with a size":            {raw("p", '6', size(512)), f("e", "e"), end},
		"a device with a size":          {raw("c", '3', size(512)), f("e", "e"), end},
		"a whiteout with content":       {content(raw(".wh.x", '0', size(3)), "abc"), f("e", "e"), end},
		"a whiteout that is a device":   {raw(".wh.x", '3', size(512)), f("e", "e"), end},
		"a whiteout of an odd type":     {content(raw(".wh.x", 'V', size(3)), "abc"), f("e", "e"), end},
		"aufs's own of an odd type":     {content(raw(".wh..wh.x", 'V', size(3)), "abc"), f("e", "e"), end},
		"an odd type":                   {content(raw("x", 'V', size(3)), "abc"), f("e", "e"), end},
		"two archives":                  {f("a", "a"), end, f("b", "b"), end},
		"two archives with one block":   {f("a", "a"), end[:512], f("b", "b"), end},
		"data behind the end":           {f("a", "a"), end, []byte(strings.Repeat("nonsense", 1000))},
		"no end":                        {f("a", "a")},
		"half a block":                  {f("a", "a"), end[:100]},
		"a block of zeros first":        {end[:512], f("a", "a"), end},
		"nothing but zeros":             {end},
		"a size in base 256":            {content(raw("a", '0', map[int]string{124: base256("\x03")}), "abc"), f("e", "e"), end},
		"a negative one":                {raw("a", '0', map[int]string{124: strings.Repeat("\xff", 12)}), f("e", "e"), end},
		"one of 90 bits":                {raw("a", '0', map[int]string{124: "\x81" + strings.Repeat("\x00", 10) + "\x03"}), f("e", "e"), end},
		"an owner in base 256":          {raw("a", '0', with(0, map[int]string{108: "\x80\x00\x00\x00\x00\x01\x00\x00"})), f("e", "e"), end},
		"a time before 1970":            {raw("a", '0', with(0, map[int]string{136: strings.Repeat("\xff", 11) + "\xf0"})), f("e", "e"), end},
		"spaces in numbers":             {content(raw("a", '0', map[int]string{124: "         3 \x00"}), "abc"), f("e", "e"), end},
		"a NUL within a number":         {content(raw("a", '0', map[int]string{124: "00000000003\x00"}), "abc"), content(raw("b", '0', map[int]string{124: "3\x00999999999\x00"}), "abc"), f("e", "e"), end},
		"a global header":               {pax('g', "path=all", "size=9", "uid=7"), f("a", "a"), end},
		"a global one before a file's":  {pax('x', "path=lost"), pax('g', "path=all"), f("a", "a"), end},
		"a sparse map by PAX":           {pax('x', "GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=s", "GNU.sparse.size=20", "GNU.sparse.numblocks=1", "GNU.sparse.map=5,3"), f("a", "abc"), f("e", "e"), end},
		"a sparse map of a directory":   {pax('x', "GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=s", "GNU.sparse.size=20", "GNU.sparse.numblocks=1", "GNU.sparse.map=5,3"), raw("d", '5', nil), f("e", "e"), end},
		"a sparse file by name only":    {pax('x', "GNU.sparse.name=s", "GNU.sparse.size=20"), f("a", "abc"), f("e", "e"), end},
		"its map within":                {pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=s", "GNU.sparse.realsize=20"), content(raw("a", '0', size(515)), "1\n5\n3\n"+strings.Repeat("\x00", 506)+"abc"), f("e", "e"), end},
		"its map within, of many":       {pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=s", "GNU.sparse.realsize=20"), content(raw("a", '0', size(515)), "9999999\n5\n3\n"+strings.Repeat("\x00", 500)+"abc"), f("e", "e"), end},
		"a wrong checksum":              {f("a", "a"), bytes.Replace(f("b", "b"), []byte("b"), []byte("c"), 1), end},
		"names that climb":              {f("../../a", "a"), f("/b/../../c", "c"), raw("l", '2', map[int]string{157: "../../../etc"}), f("l/passwd", "x"), end},
		"links in a circle":             {raw("x", '2', map[int]string{157: "y"}), raw("y", '2', map[int]string{157: "x"}), f("x/f", "f"), end},
		"a hard link out of the tree":   {f("etc/passwd", "own"), raw("h", '1', map[int]string{157: "../../etc/passwd"}), end},
		"the same name of all kinds":    {f("a", "a"), raw("a", '5', nil), raw("a", '2', map[int]string{157: "b"}), raw("a", '6', nil), f("a/b", "b"), f("a", "z"), end},
		"a hard link to its own place":  {f("a", "a"), raw("a", '1', map[int]string{157: "a"}), end},
		"a hard link to the root":       {raw("h", '1', map[int]string{157: "."}), f("e", "e"), end},
		"in the place of its directory": {f("d/a", "a"), raw("d", '1', map[int]string{157: "d/a"}), f("e", "e"), end},
		"a record that ends too early":  {content(raw("pax", 'x', size(10)), "99 path=x\n"), f("a", "a"), end},
		"an extended attribute, twice":  {pax('x', "SCHILY.xattr.user.a=1", "SCHILY.xattr.user.a=2"), f("a", "a"), end},
		"a name of all bytes but NUL /": {f("\x01\x02\x03\x7f\x80\xfe\xff\n\t\\\"'", "a"), end},
	} {
		l := bytes.Join(parts, nil)
		want, failed := unpack(t, filepath.Join(t.TempDir(), "tree"), l)
		var got map[string]string
		ix, err := layer.MakeIndex(context.Background(), bytes.NewReader(l), nil)
		if err == nil {
			got, err = list(tree(ix))
		}
		if (err == nil) != (failed == nil) {
			t.Errorf("%s: unpacking %v, the tree %v", name, failed, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: tree (want, got):\n%s", name, diff)
		} else if err == nil {
			sameContents(t, name, ix, l)
		}
	}
}

// sameContents reads the files of an index as its spans say, and by archive/tar.
func sameContents(t *testing.T, name string, ix *layer.Index, l []byte) {
	t.Helper()
	c := layer.NewContent(ix, testlayer.Blob(l), name, nil)
	for n := range ix.Nodes {
		ino := ix.Inode(uint32(n))
		if ino.Kind != layer.File {
			continue
		}
		b := make([]byte, ino.Size)
		if m, err := c.ReadAt(context.Background(), ino, b, 0); m < len(b) || ino.Size > 0 && err != nil {
			t.Errorf("%s: %s: %d of %d bytes, %v", name, ix.Path(uint32(n)), m, len(b), err)
		} else if got := sha256.Sum256(b); got != ino.Digest {
			t.Errorf("%s: %s is read as %q, which is not what was hashed", name, ix.Path(uint32(n)), b)
		}
	}
}
