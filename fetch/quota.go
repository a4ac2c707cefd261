package fetch

import (
	"fmt"
	"syscall"
)

// verifiedFirst is the size up to which an object is served only once its digest matched. It is kept whatever the quota
// says, for it can't be served otherwise; when it is closed it can be evicted.
const verifiedFirst = 4 << 20

// grew tells the quota that n bytes were written. Where that makes it measure and evict, the connection that
// brought them waits: else a fast one would be far over the limit by the time.
func (f *Fetcher) grew(n int64) {
	if err := f.quota.Added(n); err != nil {
		f.opts.Log.Warn("evict", "err", err)
	}
}

// allowed is an error as of a full disk where the store is as large as it may be and nothing more can be evicted.
func (p *pull) allowed() error {
	if p.desc.Size <= verifiedFirst {
		return nil
	}
	return p.f.mayKeep()
}

// mayKeep is that error, whatever is to be kept.
func (f *Fetcher) mayKeep() error {
	if !f.quota.Full() {
		return nil
	}
	return &kindError{fmt.Errorf("the store has its %d bytes and all of them are in use, pinned or of images", f.opts.MaxSize), syscall.ENOSPC}
}

// room says whether n bytes could be evicted from a disk that is full.
func (f *Fetcher) room(n int64) bool {
	ok, err := f.quota.Room(n)
	if err != nil {
		f.opts.Log.Warn("evict", "err", err)
	}
	return ok
}
