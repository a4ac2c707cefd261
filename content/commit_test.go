package content_test

import (
	"sync"
	"testing"

	"distfs/content"
)

// TestOwnerStandsStill: who has all chunks hashes and commits although another one took that upon itself, and did not go on.
// When it does, it finds its work done.
func TestOwnerStandsStill(t *testing.T) {
	s := newStore(t)
	b := randomBytes(31, 3*mib+5)
	owner := ingest(t, s, expect(b))
	if ok, err := owner.TryOwn(); !ok || err != nil {
		t.Fatalf("TryOwn = %v, %v", ok, err)
	}
	fill(t, owner, b)
	other := ingest(t, s, expect(b))
	if ok, err := other.TryOwn(); ok || err != nil {
		t.Fatalf("TryOwn of another = %v, %v", ok, err)
	}
	if err := commit(other); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	if owner.State() != content.Committed {
		t.Errorf("State of the owner's = %d, want Committed", owner.State())
	}
	if err := commit(owner); err != nil {
		t.Errorf("the owner's own commit = %v", err)
	}
	wantBlob(t, s, b)
}

// TestCommitAtOnce: of several that verified the same bytes and commit at once, all succeed.
func TestCommitAtOnce(t *testing.T) {
	s := newStore(t)
	for round := range 20 {
		b := randomBytes(uint64(100+round), mib+7)
		fill(t, ingest(t, s, expect(b)), b)
		all := make([]*content.Ingest, 4)
		for i := range all {
			all[i] = ingest(t, s, expect(b))
		}
		var wg sync.WaitGroup
		for _, g := range all {
			wg.Go(func() {
				if err := commit(g); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantBlob(t, s, b)
	}
}

func commit(g *content.Ingest) error {
	if err := g.Verify(); err != nil {
		return err
	}
	_, err := g.Commit()
	return err
}
