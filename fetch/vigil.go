package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A vigil ends the request to a source that makes no progress while another
// one could be asked. The time that the receiver takes does not count.
type vigil struct {
	source string
	limit  time.Duration // 0 for ever
	timer  *time.Timer   // nil for ever
	cancel context.CancelCauseFunc
	cause  func() error

	waited time.Duration // for bytes, since it was last weighed against them
	got    int64         // bytes since then
}

// A slowError is a source that was given up. The next one may do better, so it
// is temporary.
type slowError struct {
	source string
	after  time.Duration
}

func (e *slowError) Error() string {
	return fmt.Sprintf("%s: no progress for %v", e.source, e.after)
}

// Is makes it os.ErrDeadlineExceeded.
func (e *slowError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// newVigil starts a vigil over what is done with the context that it returns.
func newVigil(ctx context.Context, source string, limit time.Duration) (context.Context, *vigil) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &vigil{source: source, limit: limit, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	if limit > 0 {
		w.timer = time.AfterFunc(limit, func() { cancel(&slowError{source, limit}) })
	}
	return ctx, w
}

// rest has what the receiver does next not counted.
func (w *vigil) rest() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// end ends the context.
func (w *vigil) end() {
	w.rest()
	w.cancel(nil)
}

// why is err, or that the vigil ended.
func (w *vigil) why(err error) error {
	if slow, ok := errors.AsType[*slowError](w.cause()); ok {
		return slow
	}
	return err
}

// A vigilBody is a source's answer. That it failed, or ended early, is told
// once.
type vigilBody struct {
	body   io.ReadCloser
	left   int64
	vigil  *vigil
	failed func(error)
	told   bool
}

// Read reads on. The error is a *slowError if next to nothing came in all of
// the vigil's limit.
func (b *vigilBody) Read(p []byte) (int, error) {
	w := b.vigil
	began := time.Now()
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
	n, err := b.body.Read(p)
	w.rest()
	b.left -= int64(n)
	w.waited += time.Since(began)
	w.got += int64(n)
	if w.limit > 0 && w.waited > w.limit {
		if w.got < progressMin && b.left > 0 && err == nil {
			err = &slowError{w.source, w.limit}
		}
		w.waited, w.got = 0, 0
	}
	ended := errors.Is(err, io.EOF)
	if err != nil && !b.told && (!ended || b.left > 0) {
		b.told = true
		if !ended {
			err = w.why(err)
		}
		b.failed(err)
	}
	return n, err
}

// Close ends the request.
func (b *vigilBody) Close() error {
	b.vigil.end()
	return b.body.Close()
}
