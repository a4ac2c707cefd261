package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"sync"
	"syscall"
	"testing"

	"distfs/locator"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var repo = locator.Locator{Host: "example.com", Path: "app"}

func tagged(tag string) locator.Reference { return locator.Reference{Locator: repo, Tag: tag} }

// A fakeSource has objects in memory, and holds its callers to what they are to do.
type fakeSource struct {
	t       *testing.T
	blobs   map[digest.Digest][]byte
	tags    map[string]ocispec.Descriptor
	wrong   map[digest.Digest]bool          // their digest does not match
	hashing map[digest.Digest]bool          // all of it is here, and not yet verified
	gates   map[digest.Digest]chan struct{} // closed when the bytes are there

	mu     sync.Mutex
	held   map[digest.Digest]int
	open   int // at the moment, and
	peak   int // the most of them
	atPeak int // when so many are, a message goes to the gate of ""
	opened []digest.Digest
	images map[string]ocispec.Descriptor
}

func newSource(t *testing.T) *fakeSource {
	t.Helper()
	return &fakeSource{
		t: t, blobs: make(map[digest.Digest][]byte), tags: make(map[string]ocispec.Descriptor), wrong: make(map[digest.Digest]bool), hashing: make(map[digest.Digest]bool),
		gates: make(map[digest.Digest]chan struct{}), held: make(map[digest.Digest]int), images: make(map[string]ocispec.Descriptor),
	}
}

func (s *fakeSource) put(mediaType string, b []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	s.blobs[desc.Digest] = b
	return desc
}

func (s *fakeSource) putJSON(mediaType string, v any) ocispec.Descriptor {
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.put(mediaType, b)
}

func (s *fakeSource) image(layers ...ocispec.Descriptor) ocispec.Descriptor {
	return s.imageOf(s.put(ocispec.MediaTypeImageConfig, []byte("{}")), layers...)
}

func (s *fakeSource) imageOf(config ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
	if layers == nil {
		layers = []ocispec.Descriptor{}
	}
	return s.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
}

func (s *fakeSource) index(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	return s.putJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

func (s *fakeSource) Resolve(_ context.Context, ref locator.Reference) (ocispec.Descriptor, error) {
	desc, ok := s.tags[ref.Tag]
	if !ok {
		return desc, fmt.Errorf("%s: %w", ref, iofs.ErrNotExist)
	}
	return desc, nil
}

func (s *fakeSource) Open(_ context.Context, loc locator.Locator, desc ocispec.Descriptor) (transfer.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if loc != repo || s.held[desc.Digest] == 0 {
		s.t.Errorf("Open(%v, %s) of what is held %d times", loc, desc.Digest, s.held[desc.Digest])
	}
	b, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, iofs.ErrNotExist)
	}
	s.open++
	if s.peak = max(s.peak, s.open); s.open == s.atPeak {
		s.gates[""] <- struct{}{}
	}
	s.opened = append(s.opened, desc.Digest)
	return &fakeObject{s: s, dgst: desc.Digest, b: b}, nil
}

func (s *fakeSource) Answered(context.Context, locator.Locator, ocispec.Descriptor) error { return nil }

func (s *fakeSource) Local(locator.Locator, digest.Digest) int64 { return 0 }

func (s *fakeSource) Hold(dgst digest.Digest) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[dgst]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[dgst]--; s.held[dgst] == 0 {
			delete(s.held, dgst)
		}
	}, nil
}

func (s *fakeSource) Image(name string) (ocispec.Descriptor, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	desc, ok := s.images[name]
	return desc, ok, nil
}

func (s *fakeSource) SetImages(images ...ocispec.Descriptor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dgst := range s.opened {
		if s.held[dgst] == 0 {
			s.t.Errorf("SetImages while %s is not held", dgst)
		}
	}
	for _, desc := range images {
		s.images[desc.Annotations[ocispec.AnnotationRefName]] = desc
	}
	return nil
}

// done says what is left when nothing is under way.
func (s *fakeSource) done() {
	s.t.Helper()
	if s.open != 0 || len(s.held) != 0 {
		s.t.Errorf("%d objects are open and %d held, want none", s.open, len(s.held))
	}
}

type fakeObject struct {
	s    *fakeSource
	dgst digest.Digest
	b    []byte
}

func (o *fakeObject) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{Digest: o.dgst, Size: int64(len(o.b))}
}

func (o *fakeObject) wait(ctx context.Context) error {
	gate := o.s.gates[o.dgst]
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *fakeObject) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if err := o.wait(ctx); err != nil {
		return 0, err
	}
	n := copy(b, o.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (o *fakeObject) Verify(ctx context.Context) error {
	if err := o.wait(ctx); err != nil {
		return err
	}
	if o.s.wrong[o.dgst] {
		return fmt.Errorf("%s: wrong digest: %w", o.dgst, syscall.EIO)
	}
	return nil
}

func (o *fakeObject) Commit(ctx context.Context) error { return o.Verify(ctx) }

func (o *fakeObject) Progress() (transfer.State, int64) {
	if o.s.hashing[o.dgst] {
		return transfer.Verifying, int64(len(o.b))
	}
	return transfer.Downloading, int64(len(o.b)) / 2
}

func (o *fakeObject) Close() error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.open--
	return nil
}
