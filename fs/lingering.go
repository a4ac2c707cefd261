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

// letGo lets go of it at once.
func (l *lingering[T]) letGo() {
	l.held.Lock()
	l.lapses = time.Time{}
	l.held.Unlock()
	l.lapse()
}
