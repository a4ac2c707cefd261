package fetch

import (
	"distfs/content"

	"github.com/opencontainers/go-digest"
)

// A Stream is a content.Stream that is being made, within what the store may have.
type Stream struct {
	*content.Stream
	f *Fetcher
}

// NewStream makes a new stream, see content.Store. The error is syscall.ENOSPC where nothing more may be kept.
func (f *Fetcher) NewStream(key digest.Digest) (*Stream, error) {
	if err := f.mayKeep(); err != nil {
		return nil, err
	}
	st, err := f.store.NewStream(key)
	if err != nil {
		return nil, err
	}
	return &Stream{st, f}, nil
}

// Stream opens a whole one.
func (f *Fetcher) Stream(key digest.Digest) (*content.Stream, error) { return f.store.Stream(key) }

// WriteAt is that of content.Stream, with room made for what is written.
func (st *Stream) WriteAt(p []byte, off int64) (int, error) {
	if err := st.f.mayKeep(); err != nil {
		return 0, err
	}
	n, err := st.Stream.WriteAt(p, off)
	if full(err) && st.f.room(int64(len(p))) {
		n, err = st.Stream.WriteAt(p, off)
	}
	st.f.grew(int64(n))
	return n, err
}
