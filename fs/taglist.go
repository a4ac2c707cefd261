package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/locator"
)

// tagsName is the file of a repository's tags.
const tagsName = ".tags"

const (
	// tagWindow is how many bytes of a list a handle keeps behind where it is
	// read, and how many one READ is answered with at most.
	tagWindow = 64 << 10
	// tagPatience is for how long a READ waits for more than it has.
	tagPatience = time.Second
	// maxTagWalks is how often one handle has the list told from its start.
	maxTagWalks = 16
)

// A tagFile reads as the names of a repository's tags, one a line, as its
// remote lists them while it is read. How long that is nobody knows: its size
// is 0 and the kernel keeps nothing of it. It is never listed.
type tagFile struct {
	s    *server
	id   identity
	loc  locator.Locator
	path string
}

var _ = file((*tagFile)(nil))

func newTagFile(s *server, loc locator.Locator, path string) *tagFile {
	return &tagFile{s: s, id: identify("tags", path), loc: loc, path: path}
}

func (f *tagFile) identity() identity { return f.id }

func (f *tagFile) String() string { return f.path }

func (f *tagFile) attributes() attributes {
	if f.s.opts.Offline {
		return objectAttributes(0, offlineHolds, forever)
	}
	return objectAttributes(0, forever, forever)
}

// open asks nobody: whether there is a list, the first read tells.
func (f *tagFile) open(context.Context) (*handle, error) {
	r := &tagReader{f: f, turn: make(chan struct{}, 1)}
	return &handle{flags: fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH, reader: r, release: r.close}, nil
}

// A tagReader is one open of a tagFile: a walk through the list, of which a
// window is kept. Who reads before that has the list told again.
type tagReader struct {
	f    *tagFile
	turn chan struct{} // held by who reads; it guards what follows

	walks  int
	next   func() (string, error, bool) // nil: there is no walk
	stop   func()
	cancel context.CancelFunc // ends what next waits for
	begin  int64              // the window's offset
	window []byte
	end    error // why there is no more: io.EOF, or what a read will say
}

// read returns what the list has at off: n bytes, or fewer where the list ends,
// where it fails behind them, or where more keeps it waiting.
func (r *tagReader) read(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if r.next == nil || off < r.begin {
		if err := r.walk(); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, r.cancel)()
	r.fill(off, off+int64(min(n, tagWindow)))
	lines := r.from(off)
	if len(lines) == 0 {
		if errors.Is(r.end, io.EOF) {
			return fuse.ReadResultData(nil), nil
		}
		err := r.end
		r.drop() // the next read begins anew
		return nil, err
	}
	lines = lines[:min(n, tagWindow, len(lines))]
	reply, err := r.f.s.replies.take(ctx, len(lines))
	if err != nil {
		return nil, err
	}
	copy(reply.bytes, lines)
	return reply, nil
}

// walk begins at the list's start. It asks nobody yet.
func (r *tagReader) walk() error {
	r.drop()
	if r.walks == maxTagWalks {
		return fmt.Errorf("read backwards, or after an error, more than %d times: %w", maxTagWalks, syscall.EIO)
	}
	r.walks++
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.next, r.stop = iter.Pull2(r.f.s.src.ListTags(ctx, r.f.loc))
	return nil
}

// drop ends the walk.
func (r *tagReader) drop() {
	if r.next == nil {
		return
	}
	r.cancel()
	r.stop()
	r.next, r.begin, r.window, r.end = nil, 0, nil, nil
}

// fill goes on with the walk until the window reaches to end, or it ends.
func (r *tagReader) fill(off, end int64) {
	began := time.Now()
	for r.end == nil && r.begin+int64(len(r.window)) < end {
		if len(r.from(off)) > 0 && time.Since(began) > tagPatience {
			return
		}
		tag, err, ok := r.next()
		switch {
		case !ok:
			r.end = io.EOF
		case err != nil:
			r.end = err
		default:
			r.window = append(append(r.window, tag...), '\n')
			r.trim(off)
		}
	}
}

// trim forgets what lies further than tagWindow before off, a lot at a time.
func (r *tagReader) trim(off int64) {
	old := min(off-tagWindow-r.begin, int64(len(r.window)))
	if old < tagWindow {
		return
	}
	r.begin += old
	r.window = append(r.window[:0], r.window[old:]...)
}

// from is what the window has from off on.
func (r *tagReader) from(off int64) []byte {
	return r.window[min(off-r.begin, int64(len(r.window))):]
}

func (r *tagReader) close() {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	r.drop()
}
