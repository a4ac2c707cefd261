package fetch

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"sync"
	"sync/atomic"
	"time"

	"distfs/content"
)

// A worker fetches one claimed run of chunks.
type worker struct {
	first, end int64        // the run; guarded by the pull's lock
	cur        int64        // the chunk it is on; guarded by the pull's lock
	stalled    bool         // guarded by the pull's lock
	began      time.Time    // when it asked
	marked     time.Time    // when mark was taken; guarded by the pull's lock
	mark       int64        // what had been received by then; guarded by the pull's lock
	bytes      atomic.Int64 // that it received
	lastNano   atomic.Int64 // when it last did
	cancel     context.CancelCauseFunc
}

func (w *worker) last() time.Time { return time.Unix(0, w.lastNano.Load()) }
func (w *worker) span() span      { return span{w.cur, w.end - w.cur} }

func (w *worker) moved(n int) {
	w.bytes.Add(int64(n))
	w.lastNano.Store(time.Now().UnixNano())
}

// drips says whether w received next to nothing in all of a timeout: a byte now
// and then is no progress.
func (w *worker) drips(timeout time.Duration) bool {
	if time.Since(w.marked) <= timeout {
		return false
	}
	got := w.bytes.Load()
	drips := got-w.mark < progressMin
	w.marked, w.mark = time.Now(), got
	return drips
}

const (
	bufferSize  = 512 << 10
	progressMin = 64 << 10 // bytes that count as progress
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// start has a worker fetch s, which is claimed, on a connection that was
// acquired. It fails when the Fetcher closes. The lock is held.
func (p *pull) start(s span) bool {
	ctx, cancel := context.WithCancelCause(p.f.ctx)
	w := &worker{first: s.first, end: s.end(), cur: s.first, began: time.Now(), marked: time.Now(), cancel: cancel}
	w.moved(0)
	ok := p.f.begin(func() {
		defer cancel(nil)
		p.finish(w, p.fetch(ctx, w))
	})
	if !ok {
		cancel(nil)
		p.f.limits.release(p.key.origin, false)
		return false
	}
	p.workers[w] = true
	return true
}

// finish gives back what w held and tells why it ended.
func (p *pull) finish(w *worker, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f.limits.measure(p.key.origin, w)
	delete(p.workers, w)
	if p.in != nil {
		p.in.Release(w.cur, w.end-w.cur)
	}
	p.f.limits.release(p.key.origin, w.stalled)
	if p.streaming == w {
		p.streaming = nil
	}
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errStreamed) {
		p.fail(w.span(), err)
	}
	p.announce()
	p.kick()
}

// fail keeps the readers of s from waiting, and the sequences and the fill
// from trying at once again.
func (p *pull) fail(s span, err error) {
	if full(err) {
		p.serveUnkept(err)
		return
	}
	if _, ok := errors.AsType[*sizeError](err); ok {
		p.mistrust()
	}
	if p.fill && len(p.demands) == 0 && p.verifiers == 0 {
		p.f.opts.Log.Warn("fetch ended early", "chunks", p.here(), "of", p.chunks(), "err", p.named(err))
	}
	p.failures = append(p.failures, failure{s, err, time.Now().Add(failureMemory)})
	p.cursors = nil
	p.halted = true
}

// mistrust is when a server contradicts the size that is known: it is asked
// again by the next who opens the object, who gets a pull of his own.
func (p *pull) mistrust() {
	if err := p.f.store.DeleteObject(repo(p.loc), p.desc.Digest); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		p.f.opts.Log.Warn("record not dropped", "err", p.named(err))
	}
	if !p.vouched {
		p.disown()
	}
}

// fetch asks for w's run until it has it. A body that was cut is resumed where
// it ended.
func (p *pull) fetch(ctx context.Context, w *worker) error {
	off, end := p.offset(w.first), p.offset(w.end)
	for attempt := 0; off < end; {
		n, err := p.attempt(ctx, w, off, end)
		off += n
		if off >= end {
			return nil
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		err = kind(ctx, err)
		if n >= progressMin {
			attempt = 0
		} else {
			attempt++
		}
		if !temporary(err) || attempt >= maxAttempts || !p.f.pause(ctx, err, attempt) {
			return err
		}
	}
	return nil
}

// attempt asks once for [off, end) and returns how much of it arrived.
func (p *pull) attempt(ctx context.Context, w *worker, off, end int64) (int64, error) {
	body, err := p.remote.Get(ctx, p.loc, p.desc, off, end-off)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	w.moved(0)
	p.answered()
	if body.Whole && off+body.Len > end || body.Offset != off {
		return p.stream(w, body, off)
	}
	return p.copy(w, body, off, min(end, off+body.Len))
}

// answered records, once, that the repository has the object.
func (p *pull) answered() {
	p.mu.Lock()
	known := p.known
	p.known, p.vouched = true, true
	p.mu.Unlock()
	if !known {
		p.f.record(p.loc, p.desc)
	}
}

// copy writes body to [off, end), and returns how much that was.
func (p *pull) copy(w *worker, body io.Reader, off, end int64) (int64, error) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	start := off
	for off < end {
		chunkEnd := p.offset(off/content.ChunkSize + 1)
		n, err := body.Read((*bp)[:min(bufferSize, chunkEnd-off)])
		if n > 0 {
			w.moved(n)
			if _, werr := p.in.WriteAt((*bp)[:n], off); werr != nil {
				return off - start, werr
			}
			off += int64(n)
			if off == chunkEnd {
				if werr := p.arrived(w, (off-1)/content.ChunkSize); werr != nil {
					return off - start, werr
				}
			}
		}
		if err == io.EOF || n == 0 && err == nil {
			return off - start, nil
		}
		if err != nil {
			return off - start, err
		}
	}
	return off - start, nil
}

// arrived says that w has written chunk c, wholly.
func (p *pull) arrived(w *worker, c int64) error {
	if err := p.in.Done(c, 1); err != nil {
		return err // the chunk stays claimed until finish, and absent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == w.cur {
		w.cur = c + 1
	}
	p.in.Release(c, 1)
	p.progress = time.Now()
	p.unsynced = true
	p.announce()
	p.kick()
	return nil
}

// errStreamed ends a worker because another one reads all of the object.
var errStreamed = &brokenError{"streamed by another connection"}

// stream reads the whole object from a remote that gives nothing less. What is
// here already, or under way elsewhere, is read past.
func (p *pull) stream(w *worker, body *Body, off int64) (int64, error) {
	p.mu.Lock()
	p.rangeless = true
	if p.streaming != nil && p.streaming != w {
		p.mu.Unlock()
		return 0, errStreamed
	}
	p.streaming = w
	p.mu.Unlock()
	start := off
	for c := body.Offset / content.ChunkSize; c < p.chunks(); c++ {
		from, to := p.offset(c), p.offset(c+1)
		mine, err := p.takes(w, c)
		if err != nil {
			return off - start, err
		}
		if !mine {
			n, err := io.Copy(io.Discard, io.LimitReader(progressReader{body, w}, to-from))
			if err == nil && n < to-from {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return off - start, err
			}
			continue
		}
		n, err := p.copy(w, body, from, to)
		if err == nil && n < to-from {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			p.leaveChunk(w, c)
			return off - start, err
		}
		off = max(off, to)
	}
	return p.desc.Size - start, nil
}

// takes says whether w is to write chunk c of a stream: it is in w's run, or
// nobody has or fetches it, and then w claims it for as long as it writes.
func (p *pull) takes(w *worker, c int64) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c >= w.cur && c < w.end {
		return !p.in.Has(c, 1), nil
	}
	n, err := p.in.Claim(c, 1)
	return n > 0, err
}

// leaveChunk gives up a chunk of a stream that was cut in it, unless it is of
// w's run, which finish gives back.
func (p *pull) leaveChunk(w *worker, c int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c < w.cur || c >= w.end {
		p.in.Release(c, 1)
	}
}

// A progressReader counts what is read as its worker's progress.
type progressReader struct {
	io.Reader
	w *worker
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.w.moved(n)
	return n, err
}
