package main

import (
	"fmt"
	"strings"
	"testing"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestAnswers: what several images of a repository have is written down once, and
// it is bounded how much is.
func TestAnswers(t *testing.T) {
	var objects []ocispec.Descriptor
	for i := range 300 {
		objects = append(objects, ocispec.Descriptor{MediaType: "a/b", Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	entries := func(repos, tags int) (all []imported) {
		for i := range repos {
			for j := range tags {
				ref, err := locator.Hosts{}.ParseReference(fmt.Sprintf("registry.example/a%d:%d", i, j))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, imported{ref, objects[0], objects})
			}
		}
		return all
	}
	if all, err := answers(entries(2, 500)); err != nil || len(all) != 600 {
		t.Errorf("answers = %d, %v, want 600", len(all), err)
	}
	if all, err := answers(entries(1000, 1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("answers of 1,000 repositories = %d, %v", len(all), err)
	}
}
