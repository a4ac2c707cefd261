package fetch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
)

// turn waits for the turn to make the index of layer 0.
func (b *bench) turn(ctx context.Context) (done func(), err error) {
	return b.f.IndexTurn(ctx, b.loc, layers[0])
}

// otherTurn has another process's store take it.
func (b *bench) otherTurn() (done func()) {
	b.t.Helper()
	other, err := content.Open(b.store.Dir())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { other.Close() })
	done, ok, err := other.IndexTurn(layers[0])
	if err != nil || !ok {
		b.t.Fatalf("IndexTurn = %t, %v", ok, err)
	}
	return done
}

// An index is made by one after the other.
func TestIndexTurn(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: time.Hour})
	done := b.otherTurn()
	var made atomic.Bool
	got := make(chan error, 5)
	for range cap(got) {
		go func() {
			done, err := b.turn(ctx(t))
			if err == nil && !made.Load() {
				err = errors.New("it has the turn before the other has done")
			}
			if err == nil {
				done()
			}
			got <- err
		}()
	}
	leaves, leave := context.WithCancel(t.Context())
	leave()
	if _, err := b.turn(leaves); !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves has %v", err)
	}
	made.Store(true)
	done()
	for range cap(got) {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

// Who makes an index and stands still is not waited for for ever.
func TestIndexTurnOfWhoStandsStill(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: 50 * time.Millisecond})
	b.otherTurn()
	for range 2 {
		done, err := b.turn(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		done()
	}
}
