package fs

import (
	"context"
	"sync"
)

// shared is one thing that all opens of a node use: it is opened for the first
// of them and closed after the last.
type shared[T any] struct {
	open  func(context.Context) (T, error)
	close func(T)

	opening flight[struct{}]
	mu      sync.Mutex
	value   T    // guarded by mu
	isOpen  bool // guarded by mu
	users   int  // guarded by mu
}

// acquire returns the value, opened at need. release gives it back.
func (sh *shared[T]) acquire(ctx context.Context, tasks *sync.WaitGroup) (T, error) {
	for {
		if v, ok := sh.use(); ok {
			return v, nil
		}
		_, err := sh.opening.do(ctx, tasks, func(ctx context.Context) (struct{}, error) {
			v, err := sh.open(ctx)
			if err == nil {
				sh.set(v)
			}
			if ctx.Err() != nil {
				sh.idle() // nobody waits for it any more
			}
			return struct{}{}, err
		})
		if err != nil {
			sh.idle()
			var zero T
			return zero, err
		}
	}
}

func (sh *shared[T]) use() (T, bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.isOpen {
		sh.users++
	}
	return sh.value, sh.isOpen
}

// set keeps v, unless another one was kept in the meantime.
func (sh *shared[T]) set(v T) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.isOpen {
		sh.close(v)
		return
	}
	sh.value, sh.isOpen = v, true
}

// retain counts a further user of what is open.
func (sh *shared[T]) retain() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.users++
}

func (sh *shared[T]) release() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.users--
	sh.closeIdle()
}

// idle closes what was opened for somebody who did not wait for it.
func (sh *shared[T]) idle() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closeIdle()
}

func (sh *shared[T]) closeIdle() {
	if !sh.isOpen || sh.users > 0 {
		return
	}
	sh.close(sh.value)
	var zero T
	sh.value, sh.isOpen = zero, false
}

// peek returns the value if it is open at present, without using it.
func (sh *shared[T]) peek() (T, bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.value, sh.isOpen
}
