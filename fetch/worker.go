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
	in         *content.Ingest // where the bytes go; the pull may begin anew meanwhile
	first, end int64           // the run; guarded by the pull's lock
	cur        int64           // the chunk it is on; guarded by the pull's lock
	stalled    bool            // guarded by the pull's lock
	paused     bool            // it has no connection, until it is time to ask again; guarded by the pull's lock
	began      time.Time       // when the answer began that it reads, zero while it waits for one; guarded by the pull's lock
	before     int64           // what had been received by then; guarded by the pull's lock
	marked     time.Time       // when mark was taken; guarded by the pull's lock
	mark       int64           // what had been received by then; guarded by the pull's lock
	seen       int64           // what had been received when the limits last looked; guarded by the pull's lock
	bytes      atomic.Int64    // that it received
	lastNano   atomic.Int64    // when it last did
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
	ctx, cancel := context.WithCancelCause(p.behalf(p.f.ctx, s))
	w := &worker{in: p.in, first: s.first, end: s.end(), cur: s.first, marked: time.Now(), cancel: cancel}
	w.moved(0)
	p.tell("claim", s)
	ok := p.f.begin(func() {
		defer cancel(nil)
		p.finish(w, p.fetch(ctx, w))
	})
	if !ok {
		cancel(nil)
		p.f.limits.release(p.lane, false)
		return false
	}
	p.workers[w] = true
	return true
}

// finish gives back what w held and tells why it ended.
func (p *pull) finish(w *worker, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f.limits.measure(p.lane, w)
	delete(p.workers, w)
	w.in.Release(w.cur, w.end-w.cur)
	p.f.limits.release(p.lane, w.stalled)
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
	if _, ok := errors.AsType[*changedError](err); ok && p.bad == nil && !p.verified && p.file == nil {
		p.beginAnew(err)
		return
	}
	if p.fill && p.users == 0 { // who has it open hears of it when he reads
		p.f.opts.Log.Warn("fetch ended early", "chunks", p.here(), "of", p.chunks(), "err", p.named(err))
	}
	p.failures = append(p.failures, failure{s, err, time.Now().Add(failureMemory)})
	p.cursors = nil
	p.halted = true
}

// beginAnew is when a source changed what it sends: what came may be parts of
// two different things. Who has the object open gets err, who opens it next
// begins from zero.
func (p *pull) beginAnew(err error) {
	p.bad = err
	p.f.opts.Log.Error("thrown away", "origin", p.key.origin, "err", p.named(err))
	p.throwAway()
	p.disown()
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
	patience := newPatience(p.f.opts.Timeout)
	for patience.bulk = p.f.opts.Bulk; off < end; {
		if err := p.allowed(); err != nil {
			return err
		}
		n, err := p.attempt(ctx, w, off, end)
		off += n
		if off >= end {
			return nil
		}
		if full(err) && p.f.room(end-off) {
			continue
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		err = kind(ctx, err)
		if n >= progressMin {
			patience.renew()
		}
		if full(err) {
			return err
		}
		d, ok := patience.pause(ctx, err)
		if !ok || !p.pause(ctx, w, d) {
			return err
		}
	}
	return nil
}

// pause waits for d, or until ctx ends, which is false. That is no stall: w
// waits because it was asked to, and others have its connection meanwhile.
func (p *pull) pause(ctx context.Context, w *worker, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	host := p.lane
	p.mu.Lock()
	p.f.limits.release(host, w.stalled)
	w.stalled, w.paused = false, true
	p.mu.Unlock()
	ok := sleep(ctx, d)
	p.f.limits.regain(ctx, host)
	p.mu.Lock()
	defer p.mu.Unlock()
	w.paused = false
	w.moved(0)
	w.marked, w.mark = time.Now(), w.bytes.Load()
	return ok
}

// attempt asks once for [off, end) and returns how much of it arrived.
func (p *pull) attempt(ctx context.Context, w *worker, off, end int64) (int64, error) {
	asked := time.Now()
	p.hears(w, time.Time{})
	body, err := p.get(ctx, off, end-off)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	p.f.limits.answered(p.lane, time.Since(asked))
	w.moved(0)
	p.hears(w, time.Now())
	p.answered()
	p.sentBy(body)
	if body.Whole && off+body.Len > end || body.Offset != off {
		return p.stream(w, body, off)
	}
	return p.copy(w, body, off, min(end, off+body.Len))
}

// hears says when the answer began that w reads, zero where it waits for one.
func (p *pull) hears(w *worker, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.began, w.before = at, w.bytes.Load()
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
		if off%content.ChunkSize == 0 {
			if err := p.allowed(); err != nil {
				return off - start, err
			}
		}
		n, err := body.Read((*bp)[:min(bufferSize, chunkEnd-off)])
		if n > 0 {
			w.moved(n)
			p.meter.add(n)
			if _, werr := w.in.WriteAt((*bp)[:n], off); werr != nil {
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
	if err := w.in.Done(c, 1); err != nil {
		return err // the chunk stays claimed until finish, and absent
	}
	p.f.grew(p.offset(c+1) - p.offset(c))
	p.tell("chunk", span{c, 1})
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == w.cur {
		w.cur = c + 1
	}
	w.in.Release(c, 1)
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
		return !w.in.Has(c, 1), nil
	}
	n, err := w.in.Claim(c, 1)
	return n > 0, err
}

// leaveChunk gives up a chunk of a stream that was cut in it, unless it is of
// w's run, which finish gives back.
func (p *pull) leaveChunk(w *worker, c int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c < w.cur || c >= w.end {
		w.in.Release(c, 1)
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
