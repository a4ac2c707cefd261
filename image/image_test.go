package image_test

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
)

func TestIsImage(t *testing.T) {
	const (
		config  = ocispec.MediaTypeImageConfig
		unknown = "application/vnd.unknown.config.v1+json"
		gz      = ocispec.MediaTypeImageLayerGzip
		chart   = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	)
	for _, c := range []struct {
		what, artifactType, config, title string
		layers                            []string
		want                              bool
	}{
		{what: "an image", config: config, layers: []string{gz, ocispec.MediaTypeImageLayerZstd}, want: true},
		{what: "docker's", config: "application/vnd.docker.container.image.v1+json", layers: []string{"application/vnd.docker.image.rootfs.diff.tar.gzip"}, want: true},
		{what: "one of no layer", config: config, want: true},
		{what: "one whose layers have titles", config: config, title: "a", layers: []string{gz}, want: true},
		{what: "cosign's signature", config: config, layers: []string{"application/vnd.dev.cosign.simplesigning.v1+json"}},
		{what: "an attestation", config: config, layers: []string{gz, "application/vnd.in-toto+json"}},
		{what: "a docker plugin", config: "application/vnd.docker.plugin.v1+json", layers: []string{"application/vnd.docker.image.rootfs.diff.tar.gzip"}, want: true},
		{what: "ORAS's file", config: unknown, title: "a.txt", layers: []string{ocispec.MediaTypeImageLayer}},
		{what: "an artifact", artifactType: "a/b", config: ocispec.MediaTypeEmptyJSON, layers: []string{gz}},
		{what: "a chart", config: "application/vnd.cncf.helm.config.v1+json", layers: []string{chart}},
		{what: "a config alone", config: unknown},
		{what: "a blob", config: unknown, layers: []string{gz, "text/plain"}},
	} {
		d := &image.Document{ArtifactType: c.artifactType, Config: &ocispec.Descriptor{MediaType: c.config}}
		for _, layer := range c.layers {
			desc := ocispec.Descriptor{MediaType: layer}
			if c.title != "" {
				desc.Annotations = map[string]string{ocispec.AnnotationTitle: c.title}
			}
			d.Layers = append(d.Layers, desc)
		}
		if got := d.IsImage(); got != c.want {
			t.Errorf("IsImage() of %s = %t, want %t", c.what, got, c.want)
		}
	}
	if (&image.Document{Index: true}).IsImage() {
		t.Error("an index is an image")
	}
}
