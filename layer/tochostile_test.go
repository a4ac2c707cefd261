package layer_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/layer"
)

const sumOfX = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of x

// toc is the JSON with these entries, each without its braces.
func toc(entries ...string) string {
	return `{"version":1,"entries":[{` + strings.Join(entries, "},{") + `}]}`
}

// TestHostileTOC refuses tables of contents that say what no layer may have, in
// both formats alike, in bounded memory.
func TestHostileTOC(t *testing.T) {
	reg := func(fields string) string {
		return `"type":"reg","name":"f","size":10,"offset":5,"digest":"` + sumOfX + `",` + fields
	}
	chunk := func(fields string) string {
		return `"type":"chunk","name":"f","chunkDigest":"` + sumOfX + `",` + fields
	}
	for name, json := range map[string]string{
		"null":                    `null`,
		"nothing":                 ``,
		"a null entry":            `{"version":1,"entries":[null]}`,
		"null entries":            `{"version":1,"entries":null}`,
		"no entries":              `{"version":1}`,
		"entries twice":           `{"version":1,"entries":[],"entries":[]}`,
		"another version":         `{"version":2,"entries":[]}`,
		"something behind":        toc(`"type":"dir","name":"d"`) + `{}`,
		"cut short":               `{"version":1,"entries":[{"type":"dir","name":"d"}`,
		"an array":                `[]`,
		"no type":                 toc(`"name":"f"`),
		"an unknown type":         toc(`"type":"socket","name":"f"`),
		"no file of a chunk":      toc(chunk(`"offset":1`)),
		"a chunk of a directory":  toc(`"type":"dir","name":"d"`, chunk(`"offset":1,"chunkSize":1`)),
		"a file of two kinds":     toc(reg(`"linkName":"x"`), chunk(`"offset":1,"chunkOffset":10,"chunkSize":1`)),
		"a missing chunk":         toc(reg(`"chunkSize":5`)),
		"a missing chunk before":  toc(reg(`"chunkSize":5`), `"type":"dir","name":"d"`),
		"a gap":                   toc(reg(`"chunkSize":4`), chunk(`"offset":6,"chunkOffset":5,"chunkSize":5`)),
		"an overlap":              toc(reg(`"chunkSize":6`), chunk(`"offset":6,"chunkOffset":5,"chunkSize":5`)),
		"a chunk too long":        toc(reg(`"chunkSize":11`)),
		"a negative chunk":        toc(reg(`"chunkSize":-1`)),
		"a negative size":         toc(`"type":"reg","name":"f","size":-1,"digest":"` + sumOfX + `"`),
		"2^62 bytes":              toc(`"type":"reg","name":"f","size":4611686018427387904,"digest":"` + sumOfX + `"`),
		"2^63 bytes":              toc(`"type":"reg","name":"f","size":9223372036854775808`),
		"half a byte":             toc(`"type":"reg","name":"f","size":0.5`),
		"2^62 bytes together":     toc(reg(`"chunkSize":10`), `"type":"reg","name":"g","size":4611686018427387904,"chunkType":"zeros"`, `"type":"reg","name":"h","size":4611686018427387904,"chunkType":"zeros"`),
		"2^31 chunks of one byte": toc(`"type":"reg","name":"f","size":2147483648,"chunkSize":1,"offset":5,"chunkDigest":"` + sumOfX + `"`),
		"an offset past the end":  toc(`"type":"reg","name":"f","size":1,"offset":100000,"digest":"` + sumOfX + `"`),
		"an offset of the table":  toc(`"type":"reg","name":"f","size":1,"offset":1000,"digest":"` + sumOfX + `"`),
		"a negative offset":       toc(`"type":"reg","name":"f","size":1,"offset":-1,"digest":"` + sumOfX + `"`),
		"an end past the end":     toc(reg(`"endOffset":1001`)),
		"an end before the begin": toc(reg(`"endOffset":5`)),
		"an endless inner offset": toc(reg(`"innerOffset":4611686018427387904`)),
		"a negative inner offset": toc(reg(`"innerOffset":-1`)),
		"no digest":               toc(`"type":"reg","name":"f","size":1,"offset":5`),
		"no digest of a chunk":    toc(reg(`"chunkSize":5`), chunk(`"offset":6,"chunkOffset":5`)),
		"half a digest":           toc(`"type":"reg","name":"f","size":1,"offset":5,"chunkDigest":"sha256:00ff"`),
		"a digest of zeros":       toc(`"type":"reg","name":"f","size":1,"offset":5,"digest":"sha256:` + strings.Repeat("0", 64) + `"`),
		"another algorithm":       toc(`"type":"reg","name":"f","size":1,"offset":5,"digest":"sha512:` + strings.Repeat("0f", 64) + `"`),
		"an unknown chunk":        toc(reg(`"chunkType":"ones"`)),
		"a NUL":                   toc(`"type":"reg","name":"a\u0000b"`),
		"a name that is not UTF8": toc("\"type\":\"reg\",\"name\":\"a\xffb\""),
		"a name replaced":         toc(`"type":"reg","name":"a\ufffdb"`),
		"the root a file":         toc(`"type":"reg","name":"x/.."`),
		"no name":                 toc(`"type":"fifo"`),
		"an empty link":           toc(`"type":"symlink","name":"l"`),
		"a long link":             toc(`"type":"symlink","name":"l","linkName":"` + strings.Repeat("x", 5000) + `"`),
		"a long name":             toc(`"type":"dir","name":"` + strings.Repeat("x", 1000) + `"`),
		"a long type":             toc(`"type":"` + strings.Repeat("x", 1000) + `","name":"f"`),
		"a long number":           toc(`"type":"reg","name":"f","size":` + strings.Repeat("9", 1000)),
		"a link to a directory":   toc(`"type":"dir","name":"d"`, `"type":"hardlink","name":"h","linkName":"d"`),
		"a large device":          toc(`"type":"char","name":"c","devMajor":4096`),
		"nobody's number":         toc(`"type":"dir","name":"d","uid":4294967295`),
		"no time":                 toc(`"type":"dir","name":"d","modtime":"` + strings.Repeat("9", 1000) + `"`),
		"no base64":               toc(`"type":"dir","name":"d","xattrs":{"user.a":"!"}`),
		"no name of an attribute": toc(`"type":"dir","name":"d","xattrs":{"":"eA=="}`),
		"an entry of 3 MiB":       toc(`"type":"dir","name":"` + strings.Repeat("x", 3<<20) + `"`),
		"deep nesting":            `{"version":1,"other":` + strings.Repeat("[", 1<<20),
	} {
		data := make([]byte, 1000)
		es, estargz := testlayer.WithEStargzTOC(t, data, []byte(json), 0)
		zs, chunked := testlayer.WithZstdTOC(t, data, []byte(json), 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = refused(t, "eStargz of "+name, es, estargz)
		_ = refused(t, "zstd:chunked of "+name, zs, chunked)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
			t.Errorf("%s takes %d MiB of memory", name, got>>20)
		}
	}
}

func refused(t *testing.T, what string, b []byte, annotations map[string]string) error {
	t.Helper()
	ix, err := readTOC(t, b, annotations)
	if _, is := errors.AsType[*layer.TOCError](err); !is || ix != nil {
		t.Errorf("%s: ReadTOC = %v, want a *TOCError", what, err)
	}
	if err != nil && len(err.Error()) > 500 {
		t.Errorf("%s: an error of %d bytes", what, len(err.Error()))
	}
	return err
}

// TestTamedTOC has names as a tar's: what climbs stays within, the same twice is
// the last one. Ranges may overlap, for what they decode to is verified.
func TestTamedTOC(t *testing.T) {
	b, annotations := testlayer.WithZstdTOC(t, make([]byte, 1000), []byte(toc(
		`"type":"reg","name":"../../a","size":1,"offset":5,"endOffset":900,"digest":"`+sumOfX+`"`,
		`"type":"reg","name":"/b/../c","size":1,"offset":6,"endOffset":800,"digest":"`+sumOfX+`"`,
		`"type":"dir","name":"a","type":"reg","NAME":"a","digest":"sha512:00"`,
	)), 0)
	ix, err := readTOC(t, b, annotations)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for n := range ix.Nodes {
		paths = append(paths, fmt.Sprint(ix.Path(uint32(n)), ix.Inode(uint32(n)).Size))
	}
	if got, want := fmt.Sprint(paths), "[.0 a0 c1]"; got != want {
		t.Errorf("the paths are %s, want %s", got, want)
	}
	n, _ := ix.Lookup(0, "a")
	if got := ix.Inode(n).Digest; got != sha256.Sum256(nil) {
		t.Errorf("an empty file has the digest %x", got)
	}
}

// TestWastefulTOC refuses one of whose files little is to be read at the price of much,
// again and again, and not one that has a few such chunks.
func TestWastefulTOC(t *testing.T) {
	for chunks, refuses := range map[int]bool{4: false, 50_000: true} {
		for what, field := range map[string]string{
			"behind the rest of a member": `"offset":5,"innerOffset":60000000`,
			"of a member of 1 MB":         `"offset":5`,
		} {
			entries := []string{fmt.Sprintf(`"type":"reg","name":"f","size":%d,"digest":"%s","chunkSize":1,"chunkDigest":"%[2]s",%s`, chunks, sumOfX, field)}
			for i := 1; i < chunks; i++ {
				entries = append(entries, fmt.Sprintf(`"type":"chunk","chunkOffset":%d,"chunkSize":1,"chunkDigest":"%s",%s`, i, sumOfX, field))
			}
			b, annotations := testlayer.WithZstdTOC(t, make([]byte, 1_000_000), []byte(toc(entries...)), 0)
			_, err := readTOC(t, b, annotations)
			if errors.Is(err, syscall.EFBIG) != refuses {
				t.Errorf("%d chunks %s: ReadTOC = %v, want it refused: %t", chunks, what, err, refuses)
			}
		}
	}
}

// TestHostileFooter is about what leads to the table of contents.
func TestHostileFooter(t *testing.T) {
	data := make([]byte, 1000)
	json := []byte(toc(`"type":"dir","name":"d"`))
	es, estargz := testlayer.WithEStargzTOC(t, data, json, 0)
	zs, chunked := testlayer.WithZstdTOC(t, data, json, 0)
	footer := func(off int64) []byte { return append(es[:len(es)-51:len(es)-51], testlayer.EStargzFooter(off, 51)...) }
	at := func(position string) map[string]string {
		return map[string]string{
			"io.github.containers.zstd-chunked.manifest-checksum": chunked["io.github.containers.zstd-chunked.manifest-checksum"],
			"io.github.containers.zstd-chunked.manifest-position": position,
		}
	}
	big := at("1008:10:10:1")
	huge := append(make([]byte, 60<<20), testlayer.EStargzFooter(0, 51)...)
	for name, c := range map[string]struct {
		b           []byte
		annotations map[string]string
	}{
		"another digest":            {es, map[string]string{"containerd.io/snapshot/stargz/toc.digest": sumOfX}},
		"no sha256":                 {es, map[string]string{"containerd.io/snapshot/stargz/toc.digest": "md5:" + strings.Repeat("0", 32)}},
		"past the end":              {footer(1 << 40), estargz},
		"at the end":                {footer(int64(len(es))), estargz},
		"negative":                  {footer(-1), estargz},
		"elsewhere":                 {footer(999), estargz},
		"too long":                  {huge, estargz},
		"no footer":                 {es[:len(es)-1], estargz},
		"nothing":                   {nil, estargz},
		"a zstd":                    {zs, estargz},
		"another file":              {append(testlayer.Gzip(t, testlayer.Tar(t, testlayer.Reg("x", string(json)))), testlayer.EStargzFooter(0, 51)...), estargz},
		"a tar that never ends":     {append(testlayer.Gzip(t, testlayer.Raw("stargz.index.json", '0', map[int]string{124: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"})), testlayer.EStargzFooter(0, 51)...), estargz},
		"one hole":                  {append(testlayer.Gzip(t, testlayer.Raw("stargz.index.json", 'S', map[int]string{483: "77777777777\x00"})), testlayer.EStargzFooter(0, 51)...), estargz},
		"position past the end":     {zs, at("100000:10:10:1")},
		"length past the end":       {zs, at("1008:10000:10:1")},
		"an overflow":               {zs, at("9223372036854775807:9223372036854775807:1:1")},
		"a larger one":              {zs, at("9223372036854775808:1:1:1")},
		"before the beginning":      {zs, at("0:10:10:1")},
		"of no bytes":               {zs, at("1008:0:0:1")},
		"of another type":           {zs, at("1008:10:10:2")},
		"three numbers":             {zs, at("1008:10:10")},
		"no numbers":                {zs, at("a:b:c:d")},
		"another range":             {zs, big},
		"no footer, no annotation":  {zs[:len(zs)-1], at("")},
		"nothing to read":           {nil, at("")},
		"an eStargz without a word": {es, at("")},
	} {
		_ = refused(t, name, c.b, c.annotations)
	}
}

// TestBomb has tables of contents that inflate to more than they may, refused
// when they have.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	entry := []byte(`{"type":"dir","name":"d"},`)
	many := bytes.Repeat(entry, 40_000) // a MiB
	member, frame := testlayer.Gzip(t, many), testlayer.Zstd(t, many)
	const times = 1024

	manifest := testlayer.Zstd(t, []byte(`{"version":1,"entries":[`))
	for range times {
		manifest = append(manifest, frame...)
	}
	err := refused(t, "zstd:chunked", append(make([]byte, 8), manifest...), map[string]string{
		"io.github.containers.zstd-chunked.manifest-checksum": fmt.Sprintf("sha256:%x", sha256.Sum256(manifest)),
		"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("8:%d:1:1", len(manifest)),
	})
	if !errors.Is(err, syscall.EFBIG) {
		t.Errorf("zstd:chunked: %v, want %v", err, syscall.EFBIG)
	}

	hdr := testlayer.Raw("stargz.index.json", '0', map[int]string{124: fmt.Sprintf("%011o\x00", times*len(many))})
	pax := testlayer.Raw("x", 'x', map[int]string{124: fmt.Sprintf("%011o\x00", 512)})
	record := append([]byte("10 a=bcde\n"), make([]byte, 502)...)
	records := testlayer.Gzip(t, bytes.Repeat(append(pax, record...), 1024))
	for name, member := range map[string][]byte{"entries": member, "headers": records} {
		b := testlayer.Gzip(t, hdr)
		if name == "headers" {
			b = nil
		}
		for range times {
			b = append(b, member...)
		}
		b = append(b, testlayer.EStargzFooter(0, 51)...)
		err := refused(t, "eStargz of "+name, b, map[string]string{"containerd.io/snapshot/stargz/toc.digest": sumOfX})
		if errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("eStargz of %s: %v", name, err)
		}
	}
}
