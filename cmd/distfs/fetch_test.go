package main

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestAnswered has no repository stand for a layer that it did not answer for: that
// the manifest has urls of it spares it only where the layer is a foreign one, and
// one of the urls has it.
func TestAnswered(t *testing.T) {
	const layer = "what team/private has"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" { // the registry lacks it
			w.WriteHeader(http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(layer))
	}))
	defer srv.Close()
	store, err := content.Open(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := fetch.New(store, locator.Hosts{}, &fetch.Options{TakeWord: true})
	defer f.Close()
	src := &imageSource{f: f, store: store}
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	for i, c := range []struct {
		mediaType, url string
		want           error
	}{
		{ocispec.MediaTypeImageLayerGzip, "", iofs.ErrNotExist},
		{ocispec.MediaTypeImageLayerGzip, srv.URL + "/elsewhere", iofs.ErrNotExist},
		{foreign, "", iofs.ErrNotExist},
		{foreign, srv.URL + "/nowhere", iofs.ErrNotExist},
		{foreign, srv.URL + "/elsewhere", nil},
	} {
		loc := locator.Locator{Host: strings.TrimPrefix(srv.URL, "http://"), Path: fmt.Sprintf("evil/x%d", i)}
		desc := ocispec.Descriptor{MediaType: c.mediaType, Digest: digest.FromString(layer), Size: int64(len(layer))}
		if c.url != "" {
			desc.URLs = []string{c.url}
		}
		err := src.Answered(t.Context(), loc, desc)
		if !errors.Is(err, c.want) {
			t.Errorf("Answered(%s at %q) = %v, want %v", c.mediaType, c.url, err, c.want)
		}
		if desc.Size++; c.want == nil {
			loc.Path += "/more"
			if err := src.Answered(t.Context(), loc, desc); err == nil {
				t.Errorf("Answered(%s at %q) of a byte more = nil, want an error", c.mediaType, c.url)
			}
		}
	}
}
