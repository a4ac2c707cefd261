package image

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// HostPlatform returns the platform of this machine. Of 32-bit ARM it is v7.
func HostPlatform() ocispec.Platform {
	return normalize(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// ParsePlatform reads OS/ARCH or OS/ARCH/VARIANT, as docker's --platform has
// it: linux/arm64, linux/arm/v6, windows(10.0.20348)/amd64. Other names for
// the same, such as linux/x86_64, become the usual one.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return ocispec.Platform{}, fmt.Errorf("platform %s: is not OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64", quote(s))
	}
	var p ocispec.Platform
	if before, version, found := strings.Cut(parts[0], "("); found {
		version, closed := strings.CutSuffix(version, ")")
		if !closed || !isPlatformWord(version) {
			return ocispec.Platform{}, fmt.Errorf("platform %s: the OS is not NAME or NAME(VERSION)", quote(s))
		}
		parts[0], p.OSVersion = before, version
	}
	for _, part := range parts {
		if !isPlatformWord(part) {
			return ocispec.Platform{}, fmt.Errorf("platform %s: %s is not letters, digits and _ . -", quote(s), quote(part))
		}
	}
	p.OS, p.Architecture = parts[0], parts[1]
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normalize(p), nil
}

// ConfigPlatform returns the platform that an image's config says it is for; ok
// is false where it says none.
func ConfigPlatform(config []byte) (p ocispec.Platform, ok bool) {
	if len(config) > MaxBytes || json.Unmarshal(config, &p) != nil || p.OS == "" || p.Architecture == "" {
		return ocispec.Platform{}, false
	}
	return p, true
}

// isPlatformWord says whether s is letters, digits, and `_`, `.` and `-`
// between them.
func isPlatformWord(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case (c == '_' || c == '.' || c == '-') && 0 < i && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}

// normalize returns p under the names that Go has for it, as containerd's
// platforms.Normalize does. The variant that an architecture has anyway is "".
func normalize(p ocispec.Platform) ocispec.Platform {
	p.OS = strings.ToLower(p.OS)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	p.Variant = strings.ToLower(p.Variant)
	switch arch := strings.ToLower(p.Architecture); arch {
	case "i386", "i486", "i586", "i686", "x86":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64", "amd64":
		p.Architecture = "amd64"
		if p.Variant == "v1" {
			p.Variant = ""
		}
	case "aarch64", "arm64":
		p.Architecture = "arm64"
		switch p.Variant {
		case "8", "v8", "v8.0":
			p.Variant = ""
		case "9", "9.0", "v9.0":
			p.Variant = "v9"
		}
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "arm":
		p.Architecture, p.Variant = "arm", armVariant(p.Variant)
	default:
		p.Architecture = arch
	}
	return p
}

// armVariant returns v7 for none, and with its v one that lacks it.
func armVariant(variant string) string {
	switch variant {
	case "":
		return "v7"
	case "5", "6", "7", "8":
		return "v" + variant
	}
	return variant
}

// format returns what ParsePlatform reads as p; hostile names in it are quoted.
func format(p ocispec.Platform) string {
	s := p.OS
	if p.OSVersion != "" {
		s += "(" + p.OSVersion + ")"
	}
	s += "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return plain(s)
}
