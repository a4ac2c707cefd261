package fs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/locator"
)

func (s *source) OpenSparse(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	return s.Open(ctx, loc, desc)
}

func (s *source) Range(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, p []byte, off int64) (int, error) {
	if err := s.ask(ctx, fmt.Sprintf("range %s %d", desc.Digest, len(p))); err != nil {
		return 0, err
	}
	b := s.get(loc, desc.Digest)
	if b == nil {
		return 0, fmt.Errorf("range %s: 404: %w", desc.Digest, iofs.ErrNotExist)
	}
	b.edit(func(b *blob) { b.known = true })
	n := copy(p, b.content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *source) LayerIndex(dgst digest.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.indexes[dgst]
	if !ok {
		return nil, iofs.ErrNotExist
	}
	return b, nil
}

func (s *source) HasLayerIndex(dgst digest.Digest, head []byte) bool {
	b, err := s.LayerIndex(dgst)
	return err == nil && bytes.HasPrefix(b, head)
}

func (s *source) KeepLayerIndex(dgst digest.Digest, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.indexes == nil {
		s.indexes = make(map[digest.Digest][]byte)
	}
	s.indexes[dgst] = b.Bytes()
	s.indexed++
	return nil
}

func (s *source) IndexTurn(ctx context.Context, _ locator.Locator, dgst digest.Digest) (done func(), err error) {
	s.mu.Lock()
	if s.turns == nil {
		s.turns = make(map[digest.Digest]chan struct{})
	}
	if s.turns[dgst] == nil {
		s.turns[dgst] = make(chan struct{}, 1)
	}
	turn := s.turns[dgst]
	s.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *source) DropLayerIndex(dgst digest.Digest) error {
	s.set(func(s *source) { delete(s.indexes, dgst) })
	return nil
}

func (s *source) OpenFile(_ context.Context, _ locator.Locator, _ digest.Digest, desc ocispec.Descriptor, content fs.Content) (fs.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
	return &fileObject{s: s, dgst: desc.Digest, size: desc.Size, content: content}, nil
}

func (s *source) LocalFile(_ locator.Locator, _ digest.Digest, desc ocispec.Descriptor) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[desc.Digest] {
		return desc.Size
	}
	return 0
}

// indexesKept is how often an index was kept.
func (s *source) indexesKept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.indexed
}

// filesKept is how many files of layers were verified.
func (s *source) filesKept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// A fileObject is a file of a layer, which is never kept.
type fileObject struct {
	s       *source
	dgst    digest.Digest
	size    int64
	content fs.Content
}

func (o *fileObject) Size() int64 { return o.size }

func (o *fileObject) Here(int64, int64) bool { return false }

func (o *fileObject) Wait(ctx context.Context, _, _ int64) error { return o.Verify(ctx) }

func (o *fileObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.content.ReadAt(ctx, p, off)
}

func (o *fileObject) Verify(ctx context.Context) error {
	b := make([]byte, o.size)
	if n, err := o.content.ReadAt(ctx, b, 0); int64(n) < o.size {
		return err
	}
	if got := digest.FromBytes(b); got != o.dgst {
		return fmt.Errorf("%s: %w", got, syscall.EIO)
	}
	o.s.set(func(s *source) {
		if s.kept == nil {
			s.kept = make(map[digest.Digest]bool)
		}
		s.kept[o.dgst] = true
	})
	return nil
}

func (o *fileObject) Bad() error { return nil }

func (o *fileObject) File() *os.File { return o.s.file }

func (o *fileObject) Close() error {
	o.s.set(func(s *source) { s.files-- })
	return nil
}

// A streams has what layers decode to, in files of their own.
type streams struct {
	dir  string
	mu   sync.Mutex
	made map[digest.Digest]*os.File // whole, or not yet; guarded by mu
	done map[digest.Digest]bool     // guarded by mu
	full error                      // not nil: what WriteAt answers; guarded by mu
	gone int                        // that were closed before they were whole; guarded by mu

	busy    bool // another process makes what is wanted; guarded by mu
	refused int  // how often that was said; guarded by mu
	opened  int  // how often a whole one was opened; guarded by mu
}

type stream struct {
	*os.File
	of  *streams
	key digest.Digest
}

func (s *source) Stream(key digest.Digest) (fs.Stream, error) {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	if !s.streams.done[key] {
		return nil, iofs.ErrNotExist
	}
	s.streams.opened++
	return os.Open(s.streams.made[key].Name())
}

func (s *source) NewStream(key digest.Digest) (fs.NewStream, error) {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	if s.streams.busy || s.streams.made[key] != nil {
		s.streams.refused++
		return nil, iofs.ErrExist
	}
	f, err := os.CreateTemp(s.streams.dir, "stream-*")
	if err != nil {
		return nil, err
	}
	if s.streams.made == nil {
		s.streams.made, s.streams.done = make(map[digest.Digest]*os.File), make(map[digest.Digest]bool)
	}
	s.streams.made[key] = f
	return &stream{f, &s.streams, key}, nil
}

func (st *stream) WriteAt(p []byte, off int64) (int, error) {
	st.of.mu.Lock()
	full := st.of.full
	st.of.mu.Unlock()
	if full != nil {
		return 0, full
	}
	return st.File.WriteAt(p, off)
}

func (st *stream) Commit() error {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	st.of.done[st.key] = true
	return nil
}

func (st *stream) Close() error {
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if !st.of.done[st.key] {
		delete(st.of.made, st.key)
		st.of.gone++
	}
	return st.File.Close()
}

// streamsKept is how many whole streams there are.
func (s *source) streamsKept() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.done)
}

func (st *streams) set(f func(st *streams)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(st)
}

func (st *streams) count(f func(st *streams) int) (n int) {
	st.set(func(st *streams) { n = f(st) })
	return n
}

// evictStreams has none be there any more.
func (s *source) evictStreams(tb testing.TB) {
	tb.Helper()
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	for key, f := range s.streams.made {
		if err := os.Remove(f.Name()); err != nil {
			tb.Error(err)
		}
		delete(s.streams.made, key)
	}
	clear(s.streams.done)
}
