package image_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"distfs/image"
)

// fields draws a JSON object: of each of the given pieces, one choice or none.
// The first choice of each is the likely one, the others are odd or wrong.
func fields(t *rapid.T, pieces ...[]string) string {
	var some []string
	for _, choices := range pieces {
		switch n := rapid.IntRange(0, 19).Draw(t, "choice"); {
		case n == 19:
		case n >= 17 && len(choices) > 1:
			some = append(some, rapid.SampledFrom(choices[1:]).Draw(t, "odd"))
		default:
			some = append(some, choices[0])
		}
	}
	return `{` + strings.Join(rapid.Permutation(some).Draw(t, "order"), ",") + `}`
}

func drawDescriptor(t *rapid.T) string {
	empty := string(digest.FromString("{}"))
	sizes := rapid.SampledFrom([]string{
		`"digest":"` + dgstA + `","size":1`, `"digest":"` + dgstB + `","size":2`,
		`"digest":"` + empty + `","size":2,"data":"e30="`, `"digest":"` + dgstC + `","size":9223372036854775800`,
	}).Draw(t, "blob")
	return fields(t,
		[]string{`"mediaType":"` + ociManifest + `"`, `"mediaType":"a/b"`, `"mediaType":null`, `"mediaType":""`, `"MediaType":"c/d"`},
		[]string{sizes, `"digest":"` + dgstA + `","size":-1`, `"digest":"sha256:","size":1`, `"size":1`, sizes + `,"size":3`},
		[]string{`"annotations":{"a":"b"}`, `"annotations":null`, `"annotations":{"a":null}`, `"annotations":{"a":"b","A":"c"}`},
		[]string{`"platform":{"os":"linux","architecture":"arm","variant":"v6","os.features":["x"]}`, `"platform":null`, `"platform":{}`, `"platform":{"os":null}`},
		[]string{`"urls":["http://a"]`, `"urls":null`, `"urls":[null]`, `"urls":[]`, `"Urls":["b"]`},
		[]string{`"artifactType":"a/b"`, `"artifactType":null`, `"artifactType":7`},
		[]string{`"x":[{"size":-1}]`},
	)
}

func drawList(t *rapid.T) string {
	list := make([]string, rapid.IntRange(0, 2).Draw(t, "length"))
	for i := range list {
		list[i] = drawDescriptor(t)
	}
	return `[` + strings.Join(list, ",") + `]`
}

// Of documents that are nearly right, what is accepted keeps every promise,
// and encoding/json sees the same in it.
func TestParseNearlyRight(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		content := [][]string{
			{`"config":` + drawDescriptor(t), `"config":null`, `"Config":` + drawDescriptor(t)},
			{`"layers":` + drawList(t), `"layers":null`, `"layers":[null]`},
		}
		declared := ociManifest
		if rapid.Bool().Draw(t, "index") {
			declared = ociIndex
			content = [][]string{{`"manifests":` + drawList(t), `"manifests":null`, `"manifests":[],"layers":[]`}}
		}
		b := []byte(fields(t, append(content,
			[]string{`"schemaVersion":2`, `"schemaVersion":1`, `"schemaVersion":null`},
			[]string{`"mediaType":"` + declared + `"`, `"mediaType":null`, `"mediaType":"` + dockerList + `"`},
			[]string{`"annotations":{"a":"b"}`, `"annotations":null`, `"annotations":{"a":"b","a":"c"}`},
			[]string{`"subject":null`, `"subject":` + drawDescriptor(t), `"subject":{}`},
			[]string{`"artifactType":"a/b"`, `"artifactType":null`},
			[]string{`"blobs":[]`, `"fsLayers":[]`},
		)...))
		d, err := image.Parse(rapid.SampledFrom([]string{declared, "", "application/json"}).Draw(t, "declared"), b)
		if err != nil {
			wantOneLine(t, err)
			return
		}
		accepted++
		checkDocument(t, d)
		wantStandard(t, d, b)
		checkChoice(t, d)
	})
	t.Logf("%d documents were accepted", accepted)
	if accepted == 0 {
		t.Error("no document was accepted: this tests nothing")
	}
}
