package transfer

import (
	"context"
	"io"
)

// ImportInflating is ImportArchive with another bound of what layers inflate to.
func ImportInflating(ctx context.Context, store ArchiveStore, r io.Reader, most int64) (*Import, error) {
	return newArchive(store, "test", most).bring(ctx, r)
}
