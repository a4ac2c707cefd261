package testregistry

import (
	"encoding/json"
	"slices"

	"github.com/opencontainers/go-digest"
)

// names returns the digests that must be in a repository before a manifest or
// index that names them. Foreign layers need not.
func names(b []byte) []digest.Digest {
	type one struct {
		Digest digest.Digest `json:"digest"`
		URLs   []string      `json:"urls"`
	}
	var m struct {
		Config    one   `json:"config"`
		Layers    []one `json:"layers"`
		Manifests []one `json:"manifests"`
	}
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	var all []digest.Digest
	for _, x := range slices.Concat([]one{m.Config}, m.Layers, m.Manifests) {
		if x.Digest != "" && len(x.URLs) == 0 {
			all = append(all, x.Digest)
		}
	}
	return all
}
