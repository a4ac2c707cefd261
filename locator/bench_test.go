package locator_test

import (
	"testing"

	"distfs/locator"
)

func BenchmarkParseName(b *testing.B) {
	for _, c := range []struct{ name, elem string }{
		{"component", "library"},
		{"object", sha256a},
		{"tag", "redis:7.2-alpine"},
		{"image", "redis@" + sha256a},
		{"refused", ".git"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = locator.ParseName(c.elem)
			}
		})
	}
}

func BenchmarkIsHost(b *testing.B) {
	h := hosts()
	for _, name := range []string{"docker.io", "localhost:5000", ".git", "Makefile"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.IsHost(name)
			}
		})
	}
}

func BenchmarkParseReference(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = hosts().ParseReference("ghcr.io/org/app:v1@" + sha256a)
	}
}
