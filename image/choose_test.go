package image_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"distfs/image"
)

// entry returns a manifest's descriptor, of size size, for a platform such as
// linux/arm/v7; the platform is taken as it is. "" is none.
func entry(platform string, size int) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: ociManifest, Digest: digest.FromString(fmt.Sprint(platform, size)), Size: int64(size)}
	if platform == "" {
		return d
	}
	parts := append(strings.Split(platform, "/"), "")
	d.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	if name, version, found := strings.Cut(parts[0], "("); found {
		d.Platform.OS, d.Platform.OSVersion = name, strings.TrimSuffix(version, ")")
	}
	return d
}

// indexOf returns an index of such entries; their sizes are their positions.
func indexOf(platforms ...string) *image.Document {
	d := &image.Document{MediaType: ociIndex, Index: true}
	for i, p := range platforms {
		d.Manifests = append(d.Manifests, entry(p, i))
	}
	return d
}

// TestFits: an image alone is held to what was asked for as an index's are, but
// for what its config leaves open.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		config, want string
		ok           bool
	}{
		{`{"os":"linux","architecture":"amd64"}`, "linux/amd64", true},
		{`{"os":"linux","architecture":"amd64"}`, "linux/amd64/v3", true},
		{`{"os":"linux","architecture":"amd64"}`, "linux/arm64", false},
		{`{"os":"linux","architecture":"arm64","variant":"v8"}`, "linux/arm64", true},
		{`{"os":"linux","architecture":"arm64"}`, "linux/amd64", false},
		{`{"os":"linux","architecture":"arm"}`, "linux/arm/v6", true},
		{`{"os":"linux","architecture":"arm","variant":"v7"}`, "linux/arm/v6", false},
		{`{"os":"windows","architecture":"amd64","os.version":"10.0.20348.1"}`, "windows(10.0.17763)/amd64", false},
		{`{"os":"linux"}`, "linux/arm64", true},
		{`{"os":1,"architecture":"amd64"}`, "linux/arm64", true},
		{`{}`, "linux/arm64", true},
		{``, "linux/arm64", true},
	} {
		want, err := image.ParsePlatform(c.want)
		if err != nil {
			t.Fatal(err)
		}
		have, ok := image.ConfigPlatform([]byte(c.config))
		if ok {
			err = image.Fits(have, want)
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Fits(%s, %s) = %v, want ok %v", c.config, c.want, err, c.ok)
		}
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		have string // separated by spaces; - is an entry without a platform
		want string
		at   int64 // -1: none
	}{
		{"linux/amd64", "linux/amd64", 0},
		{"linux/arm64 linux/amd64", "linux/amd64", 1},
		{"linux/amd64 linux/amd64", "linux/amd64", 0},
		{"windows/amd64 linux/amd64", "linux/amd64", 1},
		{"linux/arm64 linux/s390x", "linux/amd64", -1},
		{"linux/x86_64", "linux/amd64", 0},
		{"Linux/AMD64", "linux/amd64", 0},
		{"linux/amd64/v1", "linux/amd64", 0},
		{"linux/amd64", "linux/amd64/v1", 0},

		// amd64's levels, then 386.
		{"linux/amd64/v2 linux/amd64/v3 linux/amd64", "linux/amd64", 2},
		{"linux/amd64/v3", "linux/amd64", -1},
		{"linux/amd64 linux/amd64/v2 linux/amd64/v4", "linux/amd64/v3", 1},
		{"linux/386 linux/amd64", "linux/amd64/v4", 1},
		{"linux/386", "linux/amd64", 0},
		{"linux/amd64", "linux/386", -1},

		// 32-bit ARM: a missing variant is v7.
		{"linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm/v7", 2},
		{"linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm", 2},
		{"linux/arm/v5 linux/arm/v6 linux/arm/v8", "linux/arm/v7", 1},
		{"linux/arm/v5 linux/arm", "linux/arm/v7", 1},
		{"linux/arm/7", "linux/arm/v7", 0},
		{"linux/arm/v5", "linux/arm/v7", 0},
		{"linux/arm/v7", "linux/arm/v6", -1},
		{"linux/arm", "linux/arm/v6", -1},
		{"linux/arm/v4", "linux/arm/v7", -1},

		// 64-bit ARM: v8 is none; 32-bit images run.
		{"linux/arm linux/arm64", "linux/arm64", 1},
		{"linux/arm linux/arm64/v8", "linux/arm64", 1},
		{"linux/arm64", "linux/arm64/v8", 0},
		{"linux/aarch64/8", "linux/arm64", 0},
		{"linux/arm/v6 linux/arm/v8 linux/arm/v7", "linux/arm64", 1},
		{"linux/arm/v7", "linux/arm64", 0},
		{"linux/arm64", "linux/arm/v7", -1},
		{"linux/arm64/v9", "linux/arm64", -1},
		{"linux/arm64 linux/arm64/v8.1 linux/arm64/v8.3", "linux/arm64/v8.2", 1},
		{"linux/arm64 linux/arm64/v8.5 linux/arm64/v8.6", "linux/arm64/v9", 1},
		{"linux/arm64/v9 linux/arm64/v8.9 linux/arm64/v9.6", "linux/arm64/v9.5", 0},
		{"linux/arm64/v8.9 linux/arm64", "linux/arm64/v9.5", 0},
		{"linux/arm64/v9.0 linux/arm64/v9.1", "linux/arm64/v9.2", 1},
		{"linux/arm64", "linux/arm64/v8.9", 0},
		{"linux/arm64", "linux/arm64/v8.x", -1},
		{"linux/arm64", "linux/arm64/v10", -1},
		{"linux/arm64", "linux/arm64/v8.-1", -1},

		// Windows.
		{"windows(10.0.17763.1)/amd64 windows(10.0.20348.9)/amd64", "windows(10.0.20348.169)/amd64", 1},
		{"windows(10.0.17763.1)/amd64 windows(10.0.20348.9)/amd64", "windows/amd64", 0},
		{"windows(10.0.17763.1)/amd64 windows/amd64", "windows(10.0.20348)/amd64", 1},
		{"windows(10.0.17763.1)/amd64", "windows(10.0.20348)/amd64", -1},
		{"windows(10)/amd64", "windows(10.0.20348)/amd64", -1},

		// Attestations and entries without a platform.
		{"unknown/unknown linux/amd64", "linux/amd64", 1},
		{"unknown/unknown", "linux/amd64", -1},
		{"unknown/unknown", "unknown/unknown", -1},
		{"- -", "linux/amd64", 0},
		{"unknown/unknown -", "linux/amd64", 1},
		{"- linux/amd64", "linux/amd64", 1},
		{"- linux/arm64", "linux/amd64", -1},
	} {
		doc := indexOf(strings.Fields(strings.ReplaceAll(c.have, "-", ""))...)
		if strings.Contains(c.have, "-") {
			doc = &image.Document{MediaType: ociIndex, Index: true}
			for i, p := range strings.Fields(c.have) {
				doc.Manifests = append(doc.Manifests, entry(strings.TrimPrefix(p, "-"), i))
			}
		}
		want, err := image.ParsePlatform(c.want)
		if err != nil {
			want = *entry(c.want, 0).Platform
		}
		got, err := doc.Choose(want)
		if c.at >= 0 && (err != nil || got.Size != c.at) {
			t.Errorf("Choose(%s) of %s is entry %d, %v, want %d", c.want, c.have, got.Size, err, c.at)
		}
		if c.at < 0 && !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("Choose(%s) of %s is entry %d, %v, want fs.ErrNotExist", c.want, c.have, got.Size, err)
		}
	}
}

func TestChoosePassesOver(t *testing.T) {
	doc := indexOf("linux/amd64", "linux/amd64", "linux/amd64", "linux/amd64")
	doc.Manifests[0].Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	doc.Manifests[1].MediaType = ocispec.MediaTypeImageLayer
	doc.Manifests[2].MediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	doc.Manifests[3].MediaType = ociIndex // a nested index may be chosen
	got, err := doc.Choose(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil || got.Size != 3 {
		t.Errorf("Choose is entry %d, %v, want 3", got.Size, err)
	}
}

func TestPlatformError(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("linux/arch%d", i))
	}
	for _, c := range []struct {
		doc  *image.Document
		want string
	}{
		{indexOf(), "no image for linux/amd64, the index has no image at all"},
		{indexOf("unknown/unknown"), "no image for linux/amd64, the index has no image at all"},
		{indexOf("linux/arm64/v8", "linux/arm", "linux/arm64", ""), "has linux/arm64, linux/arm/v7, images without a platform"},
		{indexOf("windows(10.0.1.2)/amd64"), "has windows(10.0.1.2)/amd64"},
		{indexOf("\x1b[2J/a\nb"), `has "\x1b[2j/a\nb"`},
		{indexOf(many...), "linux/arch19 and 10 more"},
		{indexOf("linux/" + strings.Repeat("x", 1<<20)), "bytes)"},
	} {
		_, err := c.doc.Choose(ocispec.Platform{OS: "linux", Architecture: "amd64"})
		var e *image.PlatformError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Choose: %v, want a *PlatformError with %q", err, c.want)
			continue
		}
		wantOneLine(t, err)
	}
}

// Whatever the order of an index, the choice is as near, and a manifest that is
// there for the very platform is chosen.
func TestChooseIsStable(t *testing.T) {
	platforms := rapid.SliceOfN(rapid.SampledFrom([]string{
		"linux/amd64", "linux/amd64/v2", "linux/386", "linux/arm64", "linux/arm64/v8.4", "linux/arm64/v9",
		"linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "windows/amd64", "unknown/unknown",
	}), 1, 8)
	rapid.Check(t, func(t *rapid.T) {
		have := platforms.Draw(t, "have")
		want, err := image.ParsePlatform(rapid.SampledFrom(have).Draw(t, "want"))
		if err != nil {
			t.Fatal(err)
		}
		doc := indexOf(have...)
		got, err := doc.Choose(want)
		if want.OS == "unknown" {
			if err == nil {
				t.Fatalf("Choose(%v) took an attestation", want)
			}
			return
		}
		if err != nil {
			t.Fatalf("Choose(%v) of %v: %v", want, have, err)
		}
		first := -1
		for i, p := range have {
			if same, _ := image.ParsePlatform(p); same.Architecture == want.Architecture && same.Variant == want.Variant && same.OS == want.OS {
				first = i
				break
			}
		}
		if got.Size != int64(first) {
			t.Fatalf("Choose(%v) of %v is entry %d, want %d", want, have, got.Size, first)
		}
	})
}
