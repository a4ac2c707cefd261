package fetch

import (
	"context"
	"sync"
)

// shared makes one call for all who ask for the same thing at the same time.
type shared[T any] struct {
	mu      sync.Mutex
	running map[string]*sharedCall[T] // by what is asked for; guarded by mu
}

type sharedCall[T any] struct {
	done  chan struct{} // closed when the rest is set
	value T
	err   error
	left  bool // who made the call gave it up: its error is nobody else's
}

// do returns what call returns, whoever made it. The call is made in the
// goroutine of who asks first, under its ctx; if that ends, another one's call
// takes its place. Who waits leaves when ctx ends.
func (s *shared[T]) do(ctx context.Context, key string, call func() (T, error)) (T, error) {
	for {
		s.mu.Lock()
		c := s.running[key]
		if c == nil {
			c = &sharedCall[T]{done: make(chan struct{})}
			if s.running == nil {
				s.running = make(map[string]*sharedCall[T])
			}
			s.running[key] = c
			s.mu.Unlock()
			c.value, c.err = call()
			c.left = c.err != nil && ctx.Err() != nil
			s.mu.Lock()
			delete(s.running, key)
			s.mu.Unlock()
			close(c.done)
			return c.value, c.err
		}
		s.mu.Unlock()
		select {
		case <-c.done:
			if !c.left {
				return c.value, c.err
			}
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
}
