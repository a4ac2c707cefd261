package fs_test

import (
	"fmt"
	"strings"
	"testing"

	"distfs/internal/testlayer"
)

// TestMisplacedIndex does not take the index of one layer for that of another, under
// whose name it is kept.
func TestMisplacedIndex(t *testing.T) {
	src := newSource(t)
	good := addFiles(t, src, gzipped(t, testlayer.Reg("a", "good\n")))
	bad := addFiles(t, src, gzipped(t, testlayer.Reg("a", "bad\n")))
	m := mountSource(t, src, nil)
	m.wantFile(bad.dir+"/rootfs/a", []byte("bad\n"))
	src.set(func(s *source) { s.indexes[good.layers[0].desc.Digest] = s.indexes[bad.layers[0].desc.Digest] })
	m.wantFile(good.dir+"/rootfs/a", []byte("good\n"))
	if log := m.log.String(); !strings.Contains(log, "the kept index is made anew") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}

// TestLargeAttributes leaves out extended attributes that the kernel does not pass on,
// so that the others can be read.
func TestLargeAttributes(t *testing.T) {
	src := newSource(t)
	large, many := testlayer.Reg("large", ""), testlayer.Reg("many", "")
	large.PAXRecords = map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 70_000), "SCHILY.xattr.user.b": "small"}
	many.PAXRecords = make(map[string]string)
	for i := range 8000 {
		many.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.%06d", i)] = "x"
	}
	im := addFiles(t, src, gzipped(t, large, many))
	m := mountSource(t, src, nil)
	for path, want := range map[string]int{"large": 1, "many": 5400} {
		got, err := call[[2]string, string](m.agent, "Xattr", [2]string{m.path(im.dir + "/rootfs/" + path), ""})
		if n := strings.Count(got, "user."); err != nil || n < want {
			t.Errorf("%s: %d attributes are listed, %v, want %d", path, n, err, want)
		}
	}
}
