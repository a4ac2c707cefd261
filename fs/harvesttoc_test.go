package fs_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/internal/testlayer"
)

// TestHarvestOfFalseChunks serves nothing of a file whose chunks, each of which has its
// digest, do not make what has the file's: out of what is kept of the layer either, and
// though the table of contents says of the file what the tar does.
func TestHarvestOfFalseChunks(t *testing.T) {
	const files = 60
	var tar []testlayer.File
	var toc []string
	add := func(content, chunks string) {
		name := fmt.Sprintf("f%03d", len(tar))
		tar = append(tar, testlayer.Reg(name, content))
		toc = append(toc, fmt.Sprintf(`{"name":%q,"type":"reg","size":%d,"modtime":"2023-11-14T22:13:20Z","mode":420,"digest":%q,%s`,
			name, len(content), digestOf([]byte(content)), chunks))
	}
	chunk := func(of int, skip, size int, content string) string { // of the content of a file
		return fmt.Sprintf(`"offset":0,"innerOffset":%d,"chunkOffset":%d,"chunkSize":%d,"chunkDigest":%q}`,
			of*2048+1536+skip, skip, size, digestOf([]byte(content)))
	}
	for i := range files {
		content := fmt.Sprintf("content%02d", i)
		add(content, chunk(i, 0, len(content), content))
	}
	add("harmless", chunk(files, 0, 8, "harmless"))
	add("harmful!", chunk(files+1, 0, 8, "harmful!"))
	name := fmt.Sprintf("f%03d", files)
	toc[files] = strings.Replace(toc[files], chunk(files, 0, 8, "harmless"),
		chunk(files+1, 0, 4, "harm")+fmt.Sprintf(`,{"name":%q,"type":"chunk",`, name)+chunk(files+1, 4, 4, "ful!"), 1)
	b, annotations := testlayer.WithEStargzTOC(t, testlayer.Gzip(t, testlayer.Tar(t, tar...)),
		[]byte(`{"version":1,"entries":[`+strings.Join(toc, ",")+`]}`), 0)

	for _, held := range []bool{false, true} {
		src := newSource(t)
		im := addFiles(t, src, packed{ocispec.MediaTypeImageLayerGzip, b, annotations})
		if held {
			im.layers[0].complete(t)
		}
		m := mountSource(t, src, nil)
		root := im.dir + "/rootfs"
		ctx := within(t, timeLimit)
		for i := 0; src.streamsKept() == 0; i++ {
			if ctx.Err() != nil {
				t.Fatal("what the layer decodes to is not kept")
			}
			m.wantFile(fmt.Sprintf("%s/f%03d", root, i%files), fmt.Appendf(nil, "content%02d", i%files))
			if t.Failed() {
				t.Fatal(m.log)
			}
		}
		if got, err := m.read(m.path(root + "/" + name)); !errors.Is(err, syscall.EIO) {
			t.Errorf("held %t: what has %q in the tar has %q, %v, want EIO", held, "harmless", got, err)
		}
		m.wantFile(root+"/f061", []byte("harmful!"))
	}
}
