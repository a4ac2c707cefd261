package testregistry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
)

// TestTags follows the pages of a list.
func TestTags(t *testing.T) {
	r := testregistry.Start(t, nil)
	for _, tag := range []string{"c", "a", "b"} {
		r.SetTag("team/app", tag, digest.FromString(tag))
	}
	for _, c := range []struct{ path, tags, link string }{
		{"/v2/team/app/tags/list", `["a","b","c"]`, ""},
		{"/v2/team/app/tags/list?n=2", `["a","b"]`, `</v2/team/app/tags/list?last=b&n=2>; rel="next"`},
		{"/v2/team/app/tags/list?last=b&n=2", `["c"]`, ""},
	} {
		resp, err := http.Get(r.URL() + c.path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if link := resp.Header.Get("Link"); err != nil || !strings.Contains(string(b), c.tags) || link != c.link {
			t.Errorf("%s: %s, %q, %v, want %s, %q", c.path, b, link, err, c.tags, c.link)
		}
	}
	if n := r.Count(http.MethodGet, testregistry.Tags); n != 3 {
		t.Errorf("%d requests are logged, want 3", n)
	}
}
