package content_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPin(t *testing.T) {
	s := newStore(t)
	a, b := digest.FromString("a"), digest.SHA512.FromString("b")
	wantPins := func(want ...digest.Digest) {
		t.Helper()
		if got, err := s.Pins(); err != nil || !slices.Equal(got, want) {
			t.Errorf("Pins = %v, %v, want %v", got, err, want)
		}
		for _, dgst := range []digest.Digest{a, b} {
			if got, err := s.Pinned(dgst); err != nil || got != slices.Contains(want, dgst) {
				t.Errorf("Pinned(%s) = %v, %v", dgst, got, err)
			}
		}
	}
	wantPins()
	for _, dgst := range []digest.Digest{b, a, a} {
		if err := s.Pin(dgst); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "pins", "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantPins(a, b)
	if _, err := os.Stat(filepath.Join(s.Dir(), "pins", "sha256-"+a.Encoded())); err != nil {
		t.Error(err)
	}
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
	if err := s.Unpin(a); err != nil {
		t.Fatal(err)
	}
	wantPins(b)
	if err := s.Unpin(a); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Unpin of what isn't pinned = %v, want fs.ErrNotExist", err)
	}
	if err := s.Pin("../x"); err == nil {
		t.Errorf("Pin of what is no digest succeeds")
	}
}

// A store of the time before pins gets their directory.
func TestPinInOlderStore(t *testing.T) {
	s := newStore(t)
	if err := os.Remove(filepath.Join(s.Dir(), "pins")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Pins(); err != nil || len(got) > 0 {
		t.Errorf("Pins = %v, %v without a directory", got, err)
	}
	plantSome(t, s, 1)
	if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) != 1 {
		t.Errorf("Evict evicted %v without a directory of pins", got)
	}
	if err := open(t, s.Dir()).Pin(digest.FromString("a")); err != nil {
		t.Error(err)
	}
}

// What a pinned image is made of stays with it, also what comes later or is on its way; and goes when it is unpinned.
func TestPinKeepsAllOfAnImage(t *testing.T) {
	s := newStore(t)
	config, layer := plant(t, s, []byte("config"), 0), plant(t, s, []byte("layer"), 0)
	coming := randomBytes(1, 2*mib)
	later := []byte("later")
	manifest := plant(t, s, marshal(ocispec.Manifest{
		Config: ocispec.Descriptor{Digest: config},
		Layers: []ocispec.Descriptor{{Digest: layer}, {Digest: digest.FromBytes(coming)}, {Digest: digest.FromBytes(later)}},
	}), 0)
	g := ingest(t, s, expect(coming))
	fill(t, g, coming, 0)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	index := plant(t, s, indexOf(manifest), 0)
	other := plant(t, s, []byte("other"), 0)
	if err := s.Pin(index); err != nil {
		t.Fatal(err)
	}
	plant(t, s, later, 0)
	if got := digestsOf(evict(t, s, content.EvictOptions{MaxSize: -1})); !slices.Equal(got, []digest.Digest{other}) {
		t.Errorf("Evict evicted %v, want only %s", got, other)
	}
	if kept, err := s.KeptSize(); err != nil || kept != sizeOnDisk(t, s) {
		t.Errorf("KeptSize = %d, %v, want all, %d", kept, err, sizeOnDisk(t, s))
	}
	if err := s.Unpin(index); err != nil {
		t.Fatal(err)
	}
	if got := evict(t, s, content.EvictOptions{MaxSize: -1}); len(got) != 6 {
		t.Errorf("Evict evicted %v, want 6", got)
	}
	if kept, err := s.KeptSize(); err != nil || kept != 0 {
		t.Errorf("KeptSize = %d, %v, want 0", kept, err)
	}
}

// A pin that comes while another evicts is honoured from the next look on, however quickly one follows another.
func TestPinsWhileEvicting(t *testing.T) {
	s := newStore(t)
	var layers, manifests []digest.Digest
	for i := range 20 {
		b := randomBytes(uint64(i), 100)
		manifests = append(manifests, plant(t, s, marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{{Digest: digest.FromBytes(b)}}}), 0))
		layers = append(layers, plant(t, s, b, time.Duration(100-i)*time.Hour)) // the first goes first
	}
	_, err := s.Evict(content.EvictOptions{OlderThan: time.Hour, Each: func(e content.Evicted) error {
		i := slices.Index(layers, e.Digest)
		if i%2 != 0 {
			t.Errorf("%d was evicted, after it was pinned", i)
		}
		return s.Pin(manifests[i+1])
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, dgst := range layers {
		if _, err := s.Stat(dgst); (err == nil) != (i%2 == 1) {
			t.Errorf("layer %d: Stat = %v", i, err)
		}
	}
}

// While who evicts looks what is kept, which can take long, others hold blobs and pin; and what was pinned then, with what that
// names, is there still when the eviction is over.
func TestPinWhileLooking(t *testing.T) {
	s := newStore(t)
	first := plant(t, s, []byte("first"), 100*time.Hour) // it goes first
	layer := plant(t, s, []byte("layer"), 99*time.Hour)
	manifest := plant(t, s, marshal(ocispec.Manifest{Layers: []ocispec.Descriptor{{Digest: layer}}}), 98*time.Hour)
	index := filepath.Join(s.Dir(), "index.json")
	if err := errors.Join(os.Remove(index), syscall.Mkfifo(index, 0o600)); err != nil {
		t.Fatal(err)
	}
	other := open(t, s.Dir())
	done := make(chan error, 1)
	go func() {
		_, err := other.Evict(content.EvictOptions{MaxSize: -1})
		done <- err
	}()
	looks, err := os.OpenFile(index, os.O_WRONLY, 0) // when it is opened to be read
	if err != nil {
		t.Fatal(err)
	}
	release, err := s.Hold(first)
	if err != nil {
		t.Errorf("Hold = %v", err)
	} else {
		release()
	}
	if err := s.Pin(manifest); err != nil {
		t.Errorf("Pin = %v", err)
	}
	writeIndex(t, s)
	if _, err := looks.WriteString("{}"); err != nil {
		t.Error(err)
	}
	looks.Close()
	if err := <-done; err != nil {
		t.Errorf("Evict = %v", err)
	}
	wantNoBlob(t, s, first)
	for _, dgst := range []digest.Digest{manifest, layer} {
		if _, err := s.Stat(dgst); err != nil {
			t.Errorf("Stat(%s) = %v, want what is pinned", dgst, err)
		}
	}
}
