package image_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/image"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]ocispec.Platform{
		"linux/amd64":                    {OS: "linux", Architecture: "amd64"},
		"linux/amd64/v1":                 {OS: "linux", Architecture: "amd64"},
		"linux/amd64/v3":                 {OS: "linux", Architecture: "amd64", Variant: "v3"},
		"linux/x86_64":                   {OS: "linux", Architecture: "amd64"},
		"Linux/X86-64":                   {OS: "linux", Architecture: "amd64"},
		"linux/i686":                     {OS: "linux", Architecture: "386"},
		"linux/arm64":                    {OS: "linux", Architecture: "arm64"},
		"linux/arm64/v8":                 {OS: "linux", Architecture: "arm64"},
		"linux/aarch64/8":                {OS: "linux", Architecture: "arm64"},
		"linux/arm64/v8.0":               {OS: "linux", Architecture: "arm64"},
		"linux/arm64/v9.0":               {OS: "linux", Architecture: "arm64", Variant: "v9"},
		"linux/arm64/v8.2":               {OS: "linux", Architecture: "arm64", Variant: "v8.2"},
		"linux/arm":                      {OS: "linux", Architecture: "arm", Variant: "v7"},
		"linux/arm/6":                    {OS: "linux", Architecture: "arm", Variant: "v6"},
		"linux/armhf":                    {OS: "linux", Architecture: "arm", Variant: "v7"},
		"linux/armel":                    {OS: "linux", Architecture: "arm", Variant: "v6"},
		"linux/riscv64":                  {OS: "linux", Architecture: "riscv64"},
		"macOS/arm64":                    {OS: "darwin", Architecture: "arm64"},
		"wasi/wasm":                      {OS: "wasi", Architecture: "wasm"},
		"windows(10.0.20348)/amd64":      {OS: "windows", OSVersion: "10.0.20348", Architecture: "amd64"},
		"windows(10.0.20348.169)/arm/v7": {OS: "windows", OSVersion: "10.0.20348.169", Architecture: "arm", Variant: "v7"},
	} {
		got, err := image.ParsePlatform(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParsePlatform(%q): %v (-want +got):\n%s", in, err, diff)
		}
	}
	for _, in := range []string{
		"", "linux", "arm64", "linux/", "/amd64", "linux//v7", "linux/arm/v7/x", "linux/arm/", "linux amd64", "linux/am d64",
		"linux/../x", "linux/.", "windows(/amd64", "windows()/amd64", "(1)/amd64", "windows(10.0)x/amd64", "linux/\x1b[2J",
		strings.Repeat("x", 1<<16),
	} {
		_, err := image.ParsePlatform(in)
		if err == nil {
			t.Errorf("ParsePlatform(%q) = nil", in)
			continue
		}
		wantOneLine(t, err)
	}
}

func TestHostPlatform(t *testing.T) {
	p := image.HostPlatform()
	if p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
		t.Errorf("HostPlatform() = %+v", p)
	}
}

func TestLayerName(t *testing.T) {
	for mediaType, want := range map[string]string{
		ocispec.MediaTypeImageLayer:                                    "3.tar",
		ocispec.MediaTypeImageLayerGzip:                                "3.tar.gz",
		ocispec.MediaTypeImageLayerZstd:                                "3.tar.zst",
		"application/vnd.oci.image.layer.nondistributable.v1.tar":      "3.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "3.tar.gz",
		"application/vnd.docker.image.rootfs.diff.tar":                 "3.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            "3.tar.gz",
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            "3.tar.zst",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    "3.tar.gz",
		"application/vnd.cncf.helm.chart.content.v1.tar+gzip":          "3.tar.gz",
		"application/tar+gzip; x=y":                                    "3.tar.gz",
		"application/x-tar":                                            "3.tar",
		"APPLICATION/VND.OCI.IMAGE.LAYER.V1.TAR+GZIP":                  "3.tar.gz",
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted":        "3.blob",
		"application/vnd.in-toto+json":                                 "3.json",
		"application/json":                                             "3.blob",
		"application/gzip":                                             "3.blob",
		"application/octet-stream":                                     "3.blob",
		"application/vnd.star":                                         "3.blob",
		"":                                                             "3.blob",
		"tar":                                                          "3.tar",
		"../../etc/passwd\x00":                                         "3.blob",
	} {
		if got := image.LayerName(3, mediaType); got != want {
			t.Errorf("LayerName(3, %q) = %q, want %q", mediaType, got, want)
		}
	}
}

func TestIsManifest(t *testing.T) {
	for mediaType, want := range map[string]struct{ manifest, index bool }{
		ociManifest: {true, false}, dockerManifest: {true, false}, ociIndex: {true, true}, dockerList: {true, true},
		ociIndex + "; charset=utf-8": {true, true}, strings.ToUpper(ociManifest): {true, false},
		"": {}, "application/json": {}, ocispec.MediaTypeImageConfig: {}, ociManifest + "x": {},
		"application/vnd.docker.distribution.manifest.v1+prettyjws": {},
	} {
		if m, i := image.IsManifest(mediaType), image.IsIndex(mediaType); m != want.manifest || i != want.index {
			t.Errorf("IsManifest(%q), IsIndex = %t, %t, want %t, %t", mediaType, m, i, want.manifest, want.index)
		}
	}
}
