package fs

import (
	"context"
	"sync"
	"time"
)

// failureHolds is for how long a failure is the answer to the same question:
// the kernel and programs ask again at once, and each would wait its time.
const failureHolds = time.Second

// A flight puts a question once for all who ask it at the same time. Who stops
// waiting leaves; when the last one has left, the question is withdrawn. The
// zero value is ready.
type flight[T any] struct {
	mu     sync.Mutex
	call   *call[T]  // in the air and not abandoned; guarded by mu
	failed error     // the last answer, if it was an error; guarded by mu
	until  time.Time // when failed ends; guarded by mu
}

type call[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int // guarded by flight.mu
	value   T   // written before done is closed
	err     error
}

// do returns ask's answer, or the reason why ctx ended. ask runs in a goroutine
// of tasks, under a context that ends when nobody waits any more.
func (f *flight[T]) do(ctx context.Context, tasks *sync.WaitGroup, ask func(context.Context) (T, error)) (T, error) {
	c, err := f.join(ctx, tasks, ask)
	if err != nil {
		var zero T
		return zero, err
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		f.leave(c)
		var zero T
		return zero, context.Cause(ctx)
	}
}

func (f *flight[T]) join(ctx context.Context, tasks *sync.WaitGroup, ask func(context.Context) (T, error)) (*call[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call != nil {
		f.call.waiting++
		return f.call, nil
	}
	if f.failed != nil && time.Now().Before(f.until) {
		return nil, f.failed
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call[T]{done: make(chan struct{}), cancel: cancel, waiting: 1}
	f.call = c
	tasks.Go(func() {
		defer cancel()
		c.value, c.err = ask(ctx)
		f.land(c)
	})
	return c, nil
}

// land publishes the answer. One that nobody waited for is not remembered.
func (f *flight[T]) land(c *call[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call == c {
		f.call = nil
		f.failed, f.until = c.err, time.Now().Add(failureHolds)
	}
	close(c.done)
}

func (f *flight[T]) leave(c *call[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.waiting--
	if c.waiting > 0 {
		return
	}
	c.cancel()
	if f.call == c {
		f.call = nil
	}
}
