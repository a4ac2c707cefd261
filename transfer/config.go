package transfer

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// diffIDs are the digests of the layers' tars, lowest first, as a config has them.
func diffIDs(config []byte) ([]digest.Digest, error) {
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
