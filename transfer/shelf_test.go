package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"distfs/image"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A shelf is a directory of files named by digests.
type shelf struct {
	t   *testing.T
	dir string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	return &shelf{t, t.TempDir()}
}

func (s *shelf) Blob(dgst digest.Digest) (*os.File, error) {
	return os.Open(filepath.Join(s.dir, dgst.String()))
}

func (s *shelf) put(mediaType string, b []byte) ocispec.Descriptor {
	s.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if err := os.WriteFile(filepath.Join(s.dir, desc.Digest.String()), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return desc
}

func (s *shelf) putJSON(mediaType string, v any) ocispec.Descriptor {
	s.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.put(mediaType, b)
}

func (s *shelf) remove(dgst digest.Digest) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, dgst.String())); err != nil {
		s.t.Fatal(err)
	}
}

// image puts an image of a config and layers, for a platform; layers that begin
// with "foreign" are foreign and not there.
func (s *shelf) image(platform string, layers ...string) ocispec.Descriptor {
	s.t.Helper()
	p, err := image.ParsePlatform(platform)
	if err != nil {
		s.t.Fatal(err)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = s.putJSON(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p})
	for _, l := range layers {
		desc := s.put(ocispec.MediaTypeImageLayer, []byte(l))
		if strings.HasPrefix(l, "foreign") {
			s.remove(desc.Digest)
			desc.MediaType, desc.URLs = ocispec.MediaTypeImageLayerNonDistributableGzip, []string{"https://example.com/layer"} //nolint:staticcheck // that is what is tested
		}
		m.Layers = append(m.Layers, desc)
	}
	desc := s.putJSON(ocispec.MediaTypeImageManifest, m)
	desc.Platform = &p
	return desc
}

func (s *shelf) index(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	return s.putJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

// A there is a destination that refuses a manifest of which something is missing.
type there struct {
	t *testing.T

	mu     sync.Mutex
	has    map[digest.Digest][]byte
	order  []digest.Digest
	named  digest.Digest
	mounts map[digest.Digest]bool
	fails  map[digest.Digest]error
	now    int // uploads at the moment
	most   int
	gate   chan struct{} // uploads wait for it; nil is open
}

func newThere(t *testing.T) *there {
	t.Helper()
	return &there{t: t, has: make(map[digest.Digest][]byte)}
}

func (d *there) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.has[desc.Digest] != nil, nil
}

func (d *there) Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (bool, error) {
	d.mu.Lock()
	d.now++
	d.most = max(d.most, d.now)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.now--
		d.mu.Unlock()
	}()
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	b := make([]byte, desc.Size)
	if _, err := src.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	told(desc.Size / 2)
	told(desc.Size)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails[desc.Digest]; err != nil {
		return false, err
	}
	d.put(desc, b)
	return d.mounts[desc.Digest], nil
}

// put is what both kinds come to. d.mu is held.
func (d *there) put(desc ocispec.Descriptor, b []byte) {
	if d.has[desc.Digest] != nil {
		d.t.Errorf("%s came twice", desc.Digest)
	}
	if digest.FromBytes(b) != desc.Digest {
		d.t.Errorf("%s: other bytes came", desc.Digest)
	}
	d.has[desc.Digest] = b
	d.order = append(d.order, desc.Digest)
}

func (d *there) PutManifest(_ context.Context, desc ocispec.Descriptor, b []byte) error {
	doc, err := image.Parse(desc.MediaType, b)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for one := range doc.Descriptors() {
		if d.has[one.Digest] == nil && len(one.URLs) == 0 {
			d.t.Errorf("%s came before %s, which it names", desc.Digest, one.Digest)
		}
	}
	if err := d.fails[desc.Digest]; err != nil {
		return err
	}
	d.put(desc, b)
	return nil
}

func (d *there) Name(_ context.Context, desc ocispec.Descriptor, b []byte) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !bytes.Equal(d.has[desc.Digest], b) {
		d.t.Errorf("%s was named before it came", desc.Digest)
	}
	already := d.named == desc.Digest
	d.named = desc.Digest
	return already, nil
}

func amd64(t *testing.T) ocispec.Platform {
	t.Helper()
	p, err := image.ParsePlatform("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
