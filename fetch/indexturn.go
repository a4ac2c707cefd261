package fetch

import (
	"context"
	"time"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
)

// turnPause is how often it is looked whether a layer's index can be made.
const turnPause = 20 * time.Millisecond

// IndexTurn returns when nobody else on the store makes the index of loc's layer, in this process or
// another, and nobody else does until done is called: who waited will find it made, mostly.
//
// Who makes it is waited for while bytes of the layer arrive, and for the timeout when none
// do: a process that stands still must not hold up others. Then, and where the store can't be
// written, there is no turn, and the index is made once more. The error is that of ctx.
func (f *Fetcher) IndexTurn(ctx context.Context, loc locator.Locator, layer digest.Digest) (done func(), err error) {
	local, _ := f.Local(loc, layer)
	for moved := time.Now(); time.Since(moved) < f.opts.Timeout; {
		done, ok, err := f.store.IndexTurn(layer)
		if ok {
			return done, nil
		}
		if err != nil {
			f.opts.Log.Debug("no turn to make an index", "layer", layer, "err", err)
			break
		}
		if n, _ := f.Local(loc, layer); n != local {
			local, moved = n, time.Now()
		}
		select {
		case <-time.After(turnPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() {}, nil
}
