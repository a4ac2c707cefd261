package transfer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/internal/testlayer"
	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rooted makes an image of layers, each the words of entries.
func (s *fakeSource) rooted(layers ...string) (img ocispec.Descriptor, descs []ocispec.Descriptor) {
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	for _, words := range layers {
		tar := testlayer.Tar(s.t, testlayer.Words(words)...)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		descs = append(descs, s.put(ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(s.t, tar)))
	}
	return s.imageOf(s.putJSON(ocispec.MediaTypeImageConfig, config), descs...), descs
}

// TestPullWhileArriving has the lowest layer in the tree while the one above it is
// on its way.
func TestPullWhileArriving(t *testing.T) {
	s := newSource(t)
	img, layers := s.rooted("a=1 b=1", ".wh.b c=2", "d=3")
	s.tags["1"] = img
	gate := make(chan struct{})
	s.gates[layers[1].Digest] = gate
	dir := filepath.Join(t.TempDir(), "tree")
	var once sync.Once
	var last sync.Map
	report := func(e transfer.Event) {
		last.Store(e.Desc.Digest, e.State)
		if e.Desc.Digest == layers[0].Digest && e.State == transfer.Done {
			once.Do(func() {
				if got := paths(t, dir); got != "a=1 b=1" {
					t.Errorf("the tree is %s before the second layer arrives, want a=1 b=1", got)
				}
				close(gate)
			})
		}
	}
	pulled, err := transfer.Pull(t.Context(), s, tagged("1"), dir, &transfer.PullOptions{Report: report})
	if err != nil || pulled.Desc.Digest != img.Digest {
		t.Fatalf("Pull = %v, %v, want %s", pulled, err, img.Digest)
	}
	if got := paths(t, dir); got != "a=1 c=2 d=3" {
		t.Errorf("the tree is %s", got)
	}
	for _, desc := range layers {
		if state, _ := last.Load(desc.Digest); state != transfer.Done {
			t.Errorf("the last that was told of %s is %v, want done", desc.Digest, state)
		}
	}
	if s.images["example.com/app:1"].Digest != img.Digest {
		t.Errorf("the image is not in index.json")
	}
	s.done()
}

// TestPullTwice unpacks a layer as often as the image has it.
func TestPullTwice(t *testing.T) {
	s := newSource(t)
	s.tags["1"], _ = s.rooted("a=1", ".wh.a", "a=1")
	dir := filepath.Join(t.TempDir(), "tree")
	for range 2 {
		if _, err := transfer.Pull(t.Context(), s, tagged("1"), dir, nil); err != nil {
			t.Fatal(err)
		}
		if got := paths(t, dir); got != "a=1" {
			t.Errorf("the tree is %s, want a=1", got)
		}
	}
	s.done()
}

// TestPullErrors enters no image whose tree is not whole.
func TestPullErrors(t *testing.T) {
	s := newSource(t)
	good, layers := s.rooted("a=1", "b=2")
	gzip := func(words string) ocispec.Descriptor {
		return s.put(ocispec.MediaTypeImageLayerGzip, testlayer.Gzip(t, testlayer.Tar(t, testlayer.Words(words)...)))
	}
	config := func(text string) ocispec.Descriptor { return s.put(ocispec.MediaTypeImageConfig, []byte(text)) }
	broken := s.put(ocispec.MediaTypeImageLayerGzip, []byte("\x1f\x8bno gzip at all"))
	bad := gzip("x=1")
	s.wrong[bad.Digest] = true
	id := `"` + digest.FromBytes(testlayer.Tar(t, testlayer.Words("x=1")...)).String() + `"`
	for name, c := range map[string]struct {
		img  ocispec.Descriptor
		want string
		kind error
	}{
		"wrong digest":        {s.imageOf(config(`{"rootfs":{"diff_ids":[`+id+`]}}`), bad), "wrong digest", syscall.EIO},
		"another tar":         {s.imageOf(config(`{"rootfs":{"diff_ids":[`+id+`]}}`), gzip("y=1")), "not the one that the image's config names", syscall.EIO},
		"a layer too many":    {s.imageOf(config(`{"rootfs":{"diff_ids":[`+id+`]}}`), layers...), "the config has 1 layers, and the manifest 2", syscall.EIO},
		"no diff_ids":         {s.imageOf(config(`{}`), layers...), "the config has 0 layers", syscall.EIO},
		"a diffID that isn't": {s.imageOf(config(`{"rootfs":{"diff_ids":["sha256:zz"]}}`), layers[0]), `"sha256:zz"`, syscall.EIO},
		"a config that isn't": {s.imageOf(config(`[]`), layers[0]), "the config: ", syscall.EIO},
		"no gzip":             {s.imageOf(config(`{"rootfs":{"diff_ids":[`+id+`]}}`), broken), "gzip", nil},
		"no layer":            {s.imageOf(config(`{}`), s.put("text/plain", []byte("x"))), `layer 0 is of type "text/plain"`, nil},
		"an artifact":         {s.imageOf(s.put(ocispec.MediaTypeEmptyJSON, []byte("{}")), layers...), "it is an artifact of type", nil},
		"a blob":              {s.put("application/octet-stream", []byte("blob")), "it is a blob", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s.t, s.tags["1"], s.images = t, c.img, make(map[string]ocispec.Descriptor)
			ref := tagged("1")
			if c.img.MediaType == "application/octet-stream" {
				ref.Digest = c.img.Digest
			}
			_, err := transfer.Pull(t.Context(), s, ref, filepath.Join(t.TempDir(), "tree"), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %q, a %v", err, c.want, c.kind)
			}
			if len(s.images) != 0 {
				t.Errorf("%d images were entered, want none", len(s.images))
			}
			s.done()
		})
	}
	s.t, s.tags["1"] = t, good
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.opened = nil
	if _, err := transfer.Pull(t.Context(), s, tagged("1"), file, nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Pull into a file = %v, want ENOTDIR", err)
	}
	if len(s.opened) != 1 {
		t.Errorf("%d objects were opened though there is no directory, want the manifest alone", len(s.opened))
	}
}
