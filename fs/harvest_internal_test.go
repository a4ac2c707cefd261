package fs

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestHarvestIsNotIdle while a read is under way, however long it waits, nor right after it.
func TestHarvestIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harvest{last: time.Now()}
		for _, step := range []struct {
			what string
			do   func()
			want bool
		}{
			{"it has begun", func() {}, false},
			{"nothing was opened", func() { time.Sleep(harvestIdle + 1) }, true},
			{"a read waits", func() {
				end := h.reading()
				time.AfterFunc(2*harvestIdle, end)
				time.Sleep(2*harvestIdle - 1)
			}, false},
			{"it ended", func() { time.Sleep(harvestIdle) }, false},
			{"nothing was read", func() { time.Sleep(harvestIdle) }, true},
		} {
			if step.do(); h.idle() != step.want {
				t.Errorf("when %s it is idle: %v, want %v", step.what, !step.want, step.want)
			}
		}
	})
}
