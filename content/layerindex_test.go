package content_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

func TestLayerIndex(t *testing.T) {
	s := newStore(t)
	layer := digest.FromString("layer")
	if _, err := s.LayerIndex(layer); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("LayerIndex = %v, want fs.ErrNotExist", err)
	}
	if err := s.DropLayerIndex(layer); err != nil {
		t.Error(err)
	}
	path := filepath.Join(s.Dir(), "cache/index", "sha256-"+layer.Encoded()+".v1")
	for _, b := range [][]byte{randomBytes(1, 100_000), randomBytes(2, 10), nil} {
		if err := s.KeepLayerIndex(layer, writing(b)); err != nil {
			t.Fatal(err)
		}
		usedAgo(t, path, time.Hour)
		if got, err := s.LayerIndex(layer); err != nil || string(got) != string(b) {
			t.Errorf("LayerIndex = %d bytes, %v, want %d", len(got), err, len(b))
		}
		if went := evict(t, s, content.EvictOptions{OlderThan: time.Minute}); len(went) > 0 {
			t.Errorf("what was used just now went: %v", went)
		}
	}
	if err := s.KeepLayerIndex(layer, writing(make([]byte, 256<<20+1))); err == nil || !s.HasLayerIndex(layer, nil) {
		t.Error("an index of more than 256 MiB is kept, or the one before it is not")
	}
	if err := os.Truncate(path, 256<<20+1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LayerIndex(layer); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("LayerIndex of what is too large = %v, want fs.ErrNotExist", err)
	}
	if err := s.DropLayerIndex(layer); err != nil {
		t.Error(err)
	}
	wantEmpty(t, filepath.Dir(path))
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}

// One at a time makes a layer's index, whichever Store it has the turn from; who is killed has it no more.
func TestIndexTurn(t *testing.T) {
	s := newStore(t)
	other := open(t, s.Dir())
	layer, another := digest.FromString("layer"), digest.FromString("another")
	turn := func(s *content.Store, dgst digest.Digest, want bool) func() {
		t.Helper()
		done, ok, err := s.IndexTurn(dgst)
		if err != nil || ok != want {
			t.Fatalf("IndexTurn = %t, %v, want %t", ok, err, want)
		}
		return done
	}
	done := turn(s, layer, true)
	turn(s, layer, false)
	turn(other, layer, false)
	turn(other, another, true)()
	done()
	turn(other, layer, true)()

	cmd := child(t, "indexing", s.Dir(), layer.String())
	startChild(t, cmd)
	turn(s, layer, false)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	turn(s, layer, true)()
	if _, _, err := s.IndexTurn("sha256:x"); err == nil {
		t.Error("IndexTurn of no digest has no error")
	}
}

// indexingChild has the turn of a layer in the store dir, and says so, until it is killed.
func indexingChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	if _, ok, err := s.IndexTurn(digest.Digest(args[1])); err != nil || !ok {
		return fmt.Errorf("IndexTurn = %t, %v", ok, err) //nolint:errorlint // it may be none
	}
	fmt.Println("has it")
	time.Sleep(time.Hour)
	return nil
}
