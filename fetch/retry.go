package fetch

import (
	"context"
	"errors"
	"time"
)

const (
	maxAttempts = 4                      // without progress to speak of
	backoff     = 100 * time.Millisecond // after the first, and then doubled
)

// pause waits before another attempt, as long as the server asked for. Longer
// than a reader would wait it does not: then, or when ctx ends, err is the
// answer, and pause is false. After attempt 0, which made progress, it does not
// wait.
func (f *Fetcher) pause(ctx context.Context, err error, attempt int) bool {
	d := time.Duration(0)
	if attempt > 0 {
		d = backoff << (attempt - 1)
	}
	if status, ok := errors.AsType[*StatusError](err); ok && status.RetryAfter > 0 {
		d = status.RetryAfter
	}
	if d >= f.opts.Timeout {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
