package fs

import "sync"

// recent remembers values up to a total cost, and forgets those that were not
// used for longest: it has two generations, and when the young one is full it
// becomes the old one.
type recent[K comparable, V any] struct {
	limit int // of one generation; half of the total

	mu         sync.Mutex
	young, old map[K]costed[V] // guarded by mu
	cost       int             // of young; guarded by mu
	turns      int             // how often old ones were forgotten; guarded by mu
}

type costed[V any] struct {
	value V
	cost  int
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit / 2}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.young[k]
	if ok {
		return v.value, true
	}
	if v, ok = r.old[k]; ok {
		r.putLocked(k, v)
	}
	return v.value, ok
}

func (r *recent[K, V]) put(k K, v V, cost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.putLocked(k, costed[V]{v, cost})
}

func (r *recent[K, V]) putLocked(k K, v costed[V]) {
	if r.cost > 0 && r.cost+v.cost > r.limit {
		r.old, r.young, r.cost = r.young, nil, 0
		r.turns++
	}
	if r.young == nil {
		r.young = make(map[K]costed[V])
	}
	r.cost += v.cost - r.young[k].cost
	r.young[k] = v
}

// forgets returns how often old values were forgotten so far.
func (r *recent[K, V]) forgets() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turns
}

// collect returns the values of the keys that match, in no order.
func (r *recent[K, V]) collect(match func(K) bool) []V {
	r.mu.Lock()
	defer r.mu.Unlock()
	var values []V
	for k, v := range r.young {
		if match(k) {
			values = append(values, v.value)
		}
	}
	for k, v := range r.old {
		if _, younger := r.young[k]; !younger && match(k) {
			values = append(values, v.value)
		}
	}
	return values
}
