package image_test

import (
	"fmt"
	"strings"
	"testing"

	"distfs/image"
)

func BenchmarkParse(b *testing.B) {
	layers := make([]string, 10_000)
	for i := range layers {
		layers[i] = desc("a/b", fmt.Sprintf("sha256:%064x", i), i, "")
	}
	large := `{"config":` + configDesc() + `,"layers":[` + strings.Join(layers, ",") + `]}`
	for _, c := range []struct{ name, doc string }{{"small", manifest("")}, {"10000 layers", large}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.doc)))
			for b.Loop() {
				if _, err := image.Parse("", []byte(c.doc)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
