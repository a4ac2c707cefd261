package testregistry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"distfs/internal/testregistry"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestReferrers follows the pages of a list.
func TestReferrers(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{ReferrersPage: 2})
	subject := r.AddManifest("team/app", "v1", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	want := map[string]bool{}
	for i := range 3 {
		m := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.x"},"annotations":{"n":"%d"},"subject":{"digest":%q}}`, i, subject)
		want[r.AddManifest("team/app", "", ocispec.MediaTypeImageManifest, []byte(m)).String()] = true
	}
	path := "/v2/team/app/referrers/" + subject.String()
	pages := 0
	for ; path != ""; pages++ {
		resp, err := http.Get(r.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		var index ocispec.Index
		err = json.NewDecoder(resp.Body).Decode(&index)
		resp.Body.Close()
		if err != nil || resp.Header.Get("Content-Type") != ocispec.MediaTypeImageIndex {
			t.Fatalf("%s: %v, %v", path, resp.Header, err)
		}
		for _, m := range index.Manifests {
			if !want[m.Digest.String()] || m.ArtifactType != "application/vnd.x" || m.Annotations["n"] == "" {
				t.Errorf("%s: %+v", path, m)
			}
			delete(want, m.Digest.String())
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	if len(want) > 0 || pages != 2 || r.Count(http.MethodGet, testregistry.Referrers) != 2 {
		t.Errorf("%d pages, and not listed: %v", pages, want)
	}
}
