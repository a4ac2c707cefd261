package fs

import (
	"context"
	"math/bits"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sync/semaphore"
)

// replyBudget is how many bytes of replies there may be at a time, in bytes.
// A reply is in memory from when its bytes are read from the store's file
// until the kernel has copied them, never while it waits for a remote.
const replyBudget = 16 << 20

// replies are buffers for what READ answers, under a budget.
type replies struct {
	budget *semaphore.Weighted
	pools  [maxRequestBits + 1]sync.Pool // by the power of two that they hold
}

// maxRequest is the most that the kernel asks for in one READ.
const (
	maxRequestBits = 20
	maxRequest     = 1 << maxRequestBits
)

func newReplies(budget int64) *replies {
	return &replies{budget: semaphore.NewWeighted(budget)}
}

// take returns a reply of n bytes, at most maxRequest, or the error of ctx.
// Its Done gives the buffer back.
func (r *replies) take(ctx context.Context, n int) (*reply, error) {
	class := max(bits.Len(uint(n-1)), 12)
	if err := r.budget.Acquire(ctx, 1<<class); err != nil {
		return nil, err
	}
	buf, _ := r.pools[class].Get().(*[]byte)
	if buf == nil {
		b := make([]byte, 1<<class)
		buf = &b
	}
	return &reply{from: r, class: class, buf: buf, bytes: (*buf)[:n]}, nil
}

// A reply is a fuse.ReadResult in a buffer of the budget. With Slices go-fuse
// writes it as it lies, and leaves its own buffer for the request untouched.
type reply struct {
	from  *replies
	class int
	buf   *[]byte
	bytes []byte
}

var _ = fuse.ReadResult((*reply)(nil))

func (r *reply) Bytes([]byte) ([]byte, fuse.Status) { return r.bytes, fuse.OK }

func (r *reply) Slices() ([][]byte, fuse.Status) { return [][]byte{r.bytes}, fuse.OK }

func (r *reply) Size() int { return len(r.bytes) }

func (r *reply) Done() {
	r.from.pools[r.class].Put(r.buf)
	r.from.budget.Release(1 << r.class)
}
