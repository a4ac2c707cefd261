package main

import (
	"distfs/image"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

var _ = pflag.Value((*platform)(nil))

// A platform is a flag that takes os/arch[/variant].
type platform ocispec.Platform

func (p *platform) Type() string { return "os/arch[/variant]" }

func (p *platform) String() string {
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
