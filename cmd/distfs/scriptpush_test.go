package main_test

import (
	"net/http"
	"strconv"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// named NAME DIGEST enters a manifest of the store into its index.json.
func cmdNamed(ts *testscript.TestScript, _ bool, args []string) {
	store, err := content.Open(ts.Getenv("DISTFS_STORE"))
	ts.Check(err)
	defer store.Close()
	info, err := store.Stat(digest.Digest(args[1]))
	ts.Check(err)
	ts.Check(store.SetImages(ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: info.Digest, Size: info.Size,
		Annotations: map[string]string{ocispec.AnnotationRefName: args[0]},
	}))
}

// written N: so many requests since forget were to change something.
func cmdWritten(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	for _, q := range registryOf(ts).Requests() {
		if q.Method != http.MethodGet && q.Method != http.MethodHead {
			n++
		}
	}
	if got := strconv.Itoa(n); got != args[0] {
		ts.Fatalf("%s requests were to change something, want %s", got, args[0])
	}
}
