package image

import (
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A rung is an architecture with its variant, normalized.
type rung struct{ arch, variant string }

// compatible returns what runs on p, nearest first.
func compatible(p ocispec.Platform) []rung {
	ladder := []rung{{p.Architecture, p.Variant}}
	switch p.Architecture {
	case "amd64":
		for v := version(p.Variant) - 1; v >= 1; v-- {
			ladder = append(ladder, rung{"amd64", amd64Variant(v)})
		}
		ladder = append(ladder, rung{"386", ""})
	case "arm":
		ladder = append(ladder, arms(version(p.Variant)-1)...)
	case "arm64":
		ladder = append(ladder, arm64s(p.Variant)...)
		ladder = append(ladder, arms(8)...)
	}
	return ladder
}

// arms returns 32-bit ARM of version v and below, down to 5.
func arms(v int) []rung {
	var ladder []rung
	for ; v >= 5; v-- {
		ladder = append(ladder, rung{"arm", "v" + strconv.Itoa(v)})
	}
	return ladder
}

// arm64s returns what is below a variant of arm64. v9.M has all of v8.(M+5),
// up to v8.9.
func arm64s(variant string) []rung {
	major, minor, found := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	m, err := strconv.Atoi(minor)
	if (found && err != nil) || m < 0 || m > 9 {
		return nil
	}
	var ladder []rung
	switch major {
	case "9":
		for v := m - 1; v >= 0; v-- {
			ladder = append(ladder, rung{"arm64", arm64Variant(9, v)})
		}
		m = min(m+6, 10)
	case "8":
	default:
		return nil
	}
	for v := m - 1; v >= 0; v-- {
		ladder = append(ladder, rung{"arm64", arm64Variant(8, v)})
	}
	return ladder
}

// arm64Variant returns a variant as normalize leaves it.
func arm64Variant(major, minor int) string {
	switch {
	case major == 8 && minor == 0:
		return ""
	case minor == 0:
		return "v" + strconv.Itoa(major)
	}
	return "v" + strconv.Itoa(major) + "." + strconv.Itoa(minor)
}

// amd64Variant returns a variant as normalize leaves it.
func amd64Variant(v int) string {
	if v == 1 {
		return ""
	}
	return "v" + strconv.Itoa(v)
}

// version returns the number of a variant such as v7, at most 9; 0 if it has none.
func version(variant string) int {
	if len(variant) == 2 && variant[0] == 'v' && '0' <= variant[1] && variant[1] <= '9' {
		return int(variant[1] - '0')
	}
	return 0
}
