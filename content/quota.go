package content

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	quotaShare = 16               // a store that is too large is made smaller than it may be by one in so many
	quotaPart  = 32               // it is measured after one in so many of the bytes that it may have was added
	quotaAge   = 30 * time.Second // and after this time, for other processes add too
	quotaPause = 10 * time.Second // how long nothing is tried where nothing more can go
)

// A Quota keeps a store at a size: by evicting, and where that is not enough by saying so. Other processes may add to the store
// and evict from it too, by the same size or another. All methods may be called by many goroutines at once. The zero value, and
// nil, have no limit.
//
// The size is measured now and then and reckoned in between. A store may be larger by what is added until it is measured, a
// 32nd of the quota, by each process that adds.
type Quota struct {
	store *Store
	max   int64

	added atomic.Int64 // since the store was measured
	until atomic.Int64 // Full until then, in nanoseconds since the epoch; 0: it is not full

	mu       sync.Mutex // one measures at a time
	size     int64      // as measured; guarded by mu
	measured time.Time  // when that was; guarded by mu
}

// NewQuota returns a Quota of max bytes on disk for s; 0 is no limit.
func NewQuota(s *Store, max int64) *Quota { return &Quota{store: s, max: max} }

// Added says that n bytes were written to the store, by this process. If it is too large by that it evicts, which takes as long
// as it takes to look at every file, a quarter of a second for 100,000: where nobody waits for it. While another goroutine or
// process evicts it does nothing.
//
// The error is that of Evict; it says nothing of the n bytes.
func (q *Quota) Added(n int64) error {
	if q == nil || q.max <= 0 {
		return nil
	}
	q.added.Add(n)
	if !q.mu.TryLock() {
		return nil
	}
	defer q.mu.Unlock()
	for range 2 { // once more if much was added meanwhile, by who found it locked
		if !q.due() {
			break
		}
		if _, err := q.evict(0); err != nil {
			return err
		}
	}
	return nil
}

// due says whether it is time to measure.
func (q *Quota) due() bool {
	added := q.added.Load()
	return !q.waiting() && (time.Since(q.measured) > quotaAge || added > 0 && added >= q.max/quotaPart || q.size+added > q.max)
}

// Full says that the store is as large as it may be and that nothing more can be evicted now: what comes in should not be kept.
// It costs no call of the kernel, but for once in 10 seconds while the store is full, when it tries again to evict.
func (q *Quota) Full() bool {
	if q == nil || q.until.Load() == 0 {
		return false
	}
	if q.waiting() || !q.mu.TryLock() {
		return true
	}
	defer q.mu.Unlock()
	if !q.waiting() {
		_, _ = q.evict(0) // with an error it is full for as long again
	}
	return q.until.Load() != 0
}

// Room evicts at least n bytes if it can, because the disk is full, and says whether it did. Without a limit it evicts nothing:
// nobody asked for it.
func (q *Quota) Room(n int64) (bool, error) {
	if q == nil || q.max <= 0 {
		return false, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	freed, err := q.evict(max(n, q.max/quotaShare))
	return freed >= n, err
}

// evict evicts what the quota wants gone, and free bytes in any case.
func (q *Quota) evict(free int64) (freed int64, err error) {
	before := q.added.Load()
	done, err := q.store.evict(limits{high: q.max, low: q.max - q.max/quotaShare, free: free})
	if errors.Is(err, ErrEvicting) {
		return 0, nil // that another one evicts is as good: it will be looked at with the next bytes
	}
	q.note(done, before, err)
	return done.Freed, err
}

// note takes what Evict found. Of what was added, before is from before it looked.
func (q *Quota) note(done Eviction, before int64, err error) {
	q.measured = time.Now()
	q.added.Add(-before)
	q.size = done.Size
	if done.Size > q.max || err != nil {
		q.wait()
	} else {
		q.until.Store(0)
	}
}

func (q *Quota) wait() { q.until.Store(time.Now().Add(quotaPause).UnixNano()) }

func (q *Quota) waiting() bool { return time.Now().UnixNano() < q.until.Load() }
