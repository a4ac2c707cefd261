package main

import (
	"strings"

	"distfs/image"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

var (
	_ = pflag.Value((*platform)(nil))
	_ = pflag.SliceValue((*platforms)(nil))
)

// A platform is a flag that takes os/arch[/variant].
type platform ocispec.Platform

func (p *platform) Type() string { return "os/arch[/variant]" }

func (p *platform) String() string {
	if p.OS == "" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func (p *platform) Set(s string) error {
	parsed, err := image.ParsePlatform(s)
	if err != nil {
		return err
	}
	*p = platform(parsed)
	return nil
}

// platforms is a flag that takes a platform and may be given more than once. In
// the environment they are joined by commas.
type platforms []ocispec.Platform

func (p *platforms) Type() string { return "os/arch[/variant]" }

func (p *platforms) String() string { return strings.Join(p.GetSlice(), ",") }

func (p *platforms) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		if err := p.Append(one); err != nil {
			return err
		}
	}
	return nil
}

// Append adds a platform.
func (p *platforms) Append(s string) error {
	var one platform
	if err := one.Set(s); err != nil {
		return err
	}
	*p = append(*p, ocispec.Platform(one))
	return nil
}

// Replace sets all platforms.
func (p *platforms) Replace(all []string) error {
	*p = nil
	return p.Set(strings.Join(all, ","))
}

// GetSlice returns them as they are written.
func (p *platforms) GetSlice() []string {
	var all []string
	for _, one := range *p {
		all = append(all, (*platform)(&one).String())
	}
	return all
}
