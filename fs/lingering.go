package fs

import (
	"context"
	"sync"
	"time"
)

// lingerFor is how long a thing that lingers stays open after it was used.
const lingerFor = 10 * time.Second

// lingering is a shared thing that stays open for a while after each use, so that
// uses one after the other have the same. Of shared, open and close are to be set.
type lingering[T any] struct {
	shared[T]

	held   sync.Mutex
	lasts  *time.Timer // set while it is held open; guarded by held
	lapses time.Time   // when it is let go of; guarded by held
}

// A renewable is a thing that lingers, and that is opened anew when it is spoilt: who
// has the old one keeps it. All but mu and what it guards are to be set.
type renewable[T any] struct {
	open   func(context.Context) (T, error)
	close  func(T)
	spoilt func(T) bool

	mu      sync.Mutex
	current *lingering[T] // nil before it is first wanted; guarded by mu
}

// acquire returns the value and what gives it back.
func (r *renewable[T]) acquire(ctx context.Context, tasks *sync.WaitGroup) (v T, release func(), err error) {
	return r.take(func(l *lingering[T]) (T, error) { return l.acquire(ctx, tasks) })
}

// use is acquire for who will use it again.
func (r *renewable[T]) use(ctx context.Context, tasks *sync.WaitGroup) (v T, release func(), err error) {
	return r.take(func(l *lingering[T]) (T, error) { return l.use(ctx, tasks) })
}

func (r *renewable[T]) take(from func(*lingering[T]) (T, error)) (v T, release func(), err error) {
	l := r.now()
	if v, err = from(l); err == nil && r.spoilt(v) {
		r.forsake(l)
		l.release()
		l = r.now()
		v, err = from(l)
	}
	return v, l.release, err
}

func (r *renewable[T]) now() *lingering[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		r.current = &lingering[T]{}
		r.current.open, r.current.close = r.open, r.close
	}
	return r.current
}

// forsake has nobody have old who comes from now on.
func (r *renewable[T]) forsake(old *lingering[T]) {
	r.mu.Lock()
	if r.current == old {
		r.current = nil
	}
	r.mu.Unlock()
	old.end()
}

// end lets go of it at once.
func (r *renewable[T]) end() { r.now().end() }

// use is acquire for who will use it again. release gives it back.
func (l *lingering[T]) use(ctx context.Context, tasks *sync.WaitGroup) (T, error) {
	v, err := l.acquire(ctx, tasks)
	if err != nil {
		return v, err
	}
	l.held.Lock()
	defer l.held.Unlock()
	l.lapses = time.Now().Add(lingerFor)
	if l.lasts == nil {
		l.retain()
		l.lasts = time.AfterFunc(lingerFor, l.lapse)
	}
	return v, nil
}

// lapse lets go of it if it was not used meanwhile.
func (l *lingering[T]) lapse() {
	l.held.Lock()
	defer l.held.Unlock()
	if l.lasts == nil {
		return
	}
	if left := time.Until(l.lapses); left > 0 {
		l.lasts.Reset(left)
		return
	}
	l.lasts = nil
	l.release()
}

// end lets go of it at once.
func (l *lingering[T]) end() {
	l.held.Lock()
	if l.lasts != nil {
		l.lasts.Stop()
		l.lasts = nil
		l.release()
	}
	l.held.Unlock()
	l.idle()
}
