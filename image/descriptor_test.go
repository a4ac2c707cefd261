package image_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"distfs/image"
)

func TestParseRefusesDescriptors(t *testing.T) {
	sha512 := string(digest.SHA512.FromString("x"))
	field := func(fields string) string { return index("", `{`+fields+`}`) }
	base := `"mediaType":"a/b","digest":"` + dgstA + `"`
	full := base + `,"size":1`
	wantRefused(t, "", []refusal{
		{index("", `null`), "manifests[0]: is no object"},
		{index("", `[]`), "manifests[0]: is no object"},
		{index("", `"x"`), "manifests[0]: is no object"},
		{index("", `{}`), "manifests[0]: has no mediaType"},
		{index("", desc("a/b", dgstA, 1, ""), `7`), "manifests[1]: is no object"},
		{`{"manifests":{}}`, "manifests: is no array"},
		{`{"manifests":"x"}`, "manifests: is no array"},
		{`{"config":null,"layers":[]}`, "config: is no object"},
		{`{"config":[],"layers":[]}`, "config: is no object"},
		{`{"config":{},"layers":[]}`, "config: has no mediaType"},
		{`{"config":` + configDesc() + `,"layers":[null]}`, "layers[0]: is no object"},

		{field(`"mediaType":"a/b"`), "has no digest"},
		{field(`"mediaType":""`), "has no mediaType"},
		{field(`"mediaType":null`), "mediaType: is null"},
		{field(`"mediaType":1`), "mediaType: is no string"},
		{field(`"mediaType":"` + strings.Repeat("m", 256) + `"`), "mediaType: is 256 bytes long"},
		{field(`"mediaType":"a\n"`), `mediaType: "a\n" is no media type`},
		{field(`"mediaType":"é"`), `is no media type`},

		{field(base), "has no size"},
		{field(base + `,"size":null`), "size: is no"},
		{field(base + `,"size":"1"`), "size: is no number"},
		{field(base + `,"size":-1`), "size: -1 is negative"},
		{field(base + `,"size":1.5`), `size: "1.5" is no whole number`},
		{field(base + `,"size":1e3`), `size: "1e3" is no whole number`},
		{field(base + `,"size":9223372036854775808`), `is out of range`},
		{field(base + `,"size":-9223372036854775809`), `is out of range`},
		{field(base + `,"size":` + strings.Repeat("9", 5000)), `is out of range`},
		{field(base + `,"size":true`), "size: is no number"},
		{field(base + `,"size":{}`), "size: is no number"},

		{field(`"digest":null`), "digest: is null"},
		{field(`"digest":1`), "digest: is no string"},
		{field(`"digest":""`), `digest: "": invalid`},
		{field(`"digest":"sha256:"`), `digest: "sha256:"`},
		{field(`"digest":"sha256:abc"`), `invalid checksum digest length`},
		{field(`"digest":"` + dgstA[7:] + `"`), `invalid`},
		{field(`"digest":"` + strings.ToUpper(dgstA) + `"`), `digest: "SHA256:`},
		{field(`"digest":"sha256:` + strings.Repeat("A", 64) + `"`), `invalid`},
		{field(`"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"`), `unsupported digest algorithm`},
		{field(`"digest":"sha256:../../../../etc/passwd"`), `invalid`},
		{field(`"digest":"` + dgstA + `\n"`), `invalid`},
		{field(`"digest":"` + strings.Repeat("x", 1<<20) + `"`), `bytes)`},

		{field(full + `,"data":1`), "data: is no string"},
		{field(full + `,"data":[1]`), "data: is no string"},
		{field(full + `,"data":"*"`), "data: is no base64"},
		{field(full + `,"data":"e30="`), "has 2 bytes of data, but the size 1"},
		{field(full + `,"data":""`), "has 0 bytes of data, but the size 1"},
		{field(full + `,"data":"eA=="`), "has data of another digest"},
		{field(`"mediaType":"a/b","digest":"` + sha512 + `","size":1,"data":"eQ=="`), "has data of another digest"},
		{field(full + `,"urls":{}`), "urls: is no array"},
		{field(full + `,"urls":[null]`), "urls[0]: is null"},
		{field(full + `,"urls":["a",1]`), "urls[1]: is no string"},
		{field(full + `,"annotations":"x"`), "annotations: is no object"},
		{field(full + `,"artifactType":1`), "artifactType: is no string"},
		{field(full + `,"platform":[]`), "platform: is no object"},
		{field(full + `,"platform":{"os":1}`), "platform.os: is no string"},
		{field(full + `,"platform":{"OS":"linux"}`), `platform: has "OS"`},
		{field(full + `,"platform":{"architecture":[]}`), "platform.architecture: is no string"},
		{field(full + `,"platform":{"os.version":1}`), "platform.os.version: is no string"},
		{field(full + `,"platform":{"os.features":"x"}`), "platform.os.features: is no array"},
		{field(full + `,"platform":{"variant":8}`), "platform.variant: is no string"},
		{field(full + `,"platform":{"os.version":"` + strings.Repeat("x", 256) + `"}`), "platform.os.version: is 256 bytes long, at most 255 are allowed"},
		{field(full + `,"platform":{"os":"\u001b[2J"}`), `platform.os: "\x1b[2J" is not printable ASCII`},
		{field(full + `,"platform":{"architecture":"\u202e"}`), "platform.architecture: "},
		{field(full + `,"platform":{"variant":"\n"}`), "platform.variant: "},
		{field(full + `,"platform":{"os.features":["a","\u0000"]}`), "platform.os.features[1]: "},
	})
}

func TestParseRefusesSums(t *testing.T) {
	most := `,"size":9223372036854775807}`
	d := func(dgst string) string { return `{"mediaType":"a/b","digest":"` + dgst + `"` + most }
	if _, err := image.Parse("", []byte(index("", d(dgstA)))); err != nil {
		t.Errorf("Parse of the largest size: %v", err)
	}
	wantRefused(t, "", []refusal{
		{index("", d(dgstA), d(dgstB)), "more than 2^63 bytes"},
		{index("", desc("a/b", dgstA, 1, ""), desc("c/d", dgstA, 2, "")), dgstA + " with two sizes"},
	})
	same := index("", desc("a/b", dgstA, 1, ""), desc("c/d", dgstA, 1, ""))
	if _, err := image.Parse("", []byte(same)); err != nil {
		t.Errorf("Parse of one digest, twice with one size: %v", err)
	}
}

func TestParseBounds(t *testing.T) {
	many := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = desc("a/b", fmt.Sprintf("sha256:%064x", i), 1, `,"annotations":{"a":"b"}`)
		}
		return index("", all...)
	}
	d, err := image.Parse("", []byte(many(image.MaxDescriptors)))
	if err != nil || len(d.Manifests) != image.MaxDescriptors {
		t.Errorf("Parse of %d manifests: %v", image.MaxDescriptors, err)
	}
	annotations := make([]string, 250_000)
	for i := range annotations {
		annotations[i] = fmt.Sprintf(`"%x":""`, i)
	}
	wantRefused(t, "", []refusal{
		{many(image.MaxDescriptors + 1), "manifests: has more than 10000 elements"},
		{`{"manifests":[` + strings.Repeat(`{},`, 1<<20) + `{}]}`, "manifests[0]: has no mediaType"},
		{manifest(`"annotations":{` + strings.Join(annotations, ",") + `},`), "annotations: is too large"},
		{index("", desc("a/b", dgstA, 1, `,"urls":[`+strings.Repeat(`"",`, 250_000)+`""]`)), "urls"},
		{index("", desc("a/b", dgstA, 1, `,"platform":{"os.features":[`+strings.Repeat(`"",`, 32)+`""]}`)), "platform.os.features: has more than 32 elements"},
	})
}

func TestParseData(t *testing.T) {
	b := index("", desc("a/b", string(digest.FromString("")), 0, `,"data":""`), desc("a/b", string(digest.SHA384.FromString("x")), 1, `,"data":"eA=="`))
	d, err := image.Parse("", []byte(b))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	if d.Manifests[0].Data == nil || len(d.Manifests[0].Data) != 0 || string(d.Manifests[1].Data) != "x" {
		t.Errorf("data = %q, %q", d.Manifests[0].Data, d.Manifests[1].Data)
	}
}
