package image

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// DiffIDs returns the digests of the layers' tars, lowest first, as an image's config has them.
func DiffIDs(config []byte) ([]digest.Digest, error) {
	var c struct { // and no more of it: who wrote a bad date has layers all the same
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return nil, fmt.Errorf("rootfs.diff_ids[%d]: %.80q: %w", i, string(id), err)
		}
	}
	return c.RootFS.DiffIDs, nil
}
