package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"distfs/transfer"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPush(t *testing.T) {
	s := newShelf(t)
	one := s.image("linux/amd64", "a", "b", "foreign", "b")
	two := s.image("linux/arm64", "a", "c")
	attestation := s.image("linux/amd64", "d")
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	inner := s.index(two, attestation)
	deep := s.index(one, inner)
	bare := ocispec.Descriptor{Digest: one.Digest}
	for _, c := range []struct {
		name    string
		root    ocispec.Descriptor
		opts    transfer.PushOptions
		want    ocispec.Descriptor
		objects int
	}{
		{"a manifest", one, transfer.PushOptions{}, one, 4},
		{"a manifest of which the digest alone is known", bare, transfer.PushOptions{}, one, 4},
		{"a manifest, and its digest is wanted", one, transfer.PushOptions{Digest: one.Digest}, one, 4},
		{"a manifest, with all platforms", one, transfer.PushOptions{AllPlatforms: true}, one, 4},
		{"of an index, a platform", deep, transfer.PushOptions{Platform: amd64(t)}, one, 4},
		{"of an index, everything", deep, transfer.PushOptions{AllPlatforms: true}, deep, 11},
		{"one after the other", deep, transfer.PushOptions{AllPlatforms: true, Parallel: 1}, deep, 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newThere(t)
			pushed, err := transfer.Push(t.Context(), s, c.root, d, &c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if pushed.Desc.Digest != c.want.Digest || d.named != c.want.Digest || pushed.Desc.MediaType != c.want.MediaType || pushed.Desc.Size != c.want.Size {
				t.Errorf("pushed %+v, named %s, want %+v", pushed.Desc, d.named, c.want)
			}
			if len(d.has) != c.objects || pushed.Objects != c.objects || !pushed.Named || pushed.Sent != pushed.Total || pushed.Exist != 0 {
				t.Errorf("%d objects are there, want %d; %+v", len(d.has), c.objects, pushed)
			}
			if last := d.order[len(d.order)-1]; last != c.want.Digest {
				t.Errorf("the last was %s", last)
			}
			again, err := transfer.Push(t.Context(), s, c.root, d, &c.opts)
			if err != nil || again.Sent != 0 || again.Exist != c.objects || again.Named {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
	}
}

// TestPushEvents tells of each object, in the order of its states.
func TestPushEvents(t *testing.T) {
	s := newShelf(t)
	root := s.image("linux/amd64", "exists", "mounted", strings.Repeat("sent", 200_000))
	d := newThere(t)
	d.has[digest.FromString("exists")] = []byte("exists")
	d.mounts = map[digest.Digest]bool{digest.FromString("mounted"): true}
	var mu sync.Mutex
	told := make(map[string][]string)
	pushed, err := transfer.Push(t.Context(), s, root, d, &transfer.PushOptions{Label: "host/a", Report: func(e transfer.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Ref != "host/a@"+e.Desc.Digest.String() {
			t.Errorf("event %+v", e)
		}
		told[e.Desc.Digest.String()] = append(told[e.Desc.Digest.String()], fmt.Sprintf("%s %d %d", e.State, e.Offset, e.Had))
	}})
	if err != nil || pushed.Mounted != 1 || pushed.Exist != 1 {
		t.Fatalf("%+v, %v", pushed, err)
	}
	for what, want := range map[string][]string{
		"exists":                        {"waiting 0 0", "exists 6 6"},
		"mounted":                       {"waiting 0 0", "uploading 3 0", "mounted 7 7"},
		strings.Repeat("sent", 200_000): {"waiting 0 0", "uploading 400000 0", "uploading 800000 0", "done 800000 0"},
	} {
		if got := told[digest.FromString(what).String()]; !slices.Equal(got, want) {
			t.Errorf("of %.10s was told %q, want %q", what, got, want)
		}
	}
	if got := told[root.Digest.String()]; len(got) != 3 || !strings.HasPrefix(got[1], "uploading 0") || !strings.HasPrefix(got[2], "done ") {
		t.Errorf("of the manifest was told %q", got)
	}
}

// TestPushSeveral at a time, and no more than that.
func TestPushSeveral(t *testing.T) {
	s := newShelf(t)
	var layers []string
	for i := range 12 {
		layers = append(layers, fmt.Sprint("layer ", i))
	}
	root := s.image("linux/amd64", layers...)
	d := newThere(t)
	d.gate = make(chan struct{})
	done := make(chan error)
	full := make(chan struct{})
	var once sync.Once
	uploading := 0
	go func() {
		_, err := transfer.Push(t.Context(), s, root, counting{d, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if uploading++; uploading == 3 {
				once.Do(func() { close(full) })
			}
		}}, &transfer.PushOptions{Parallel: 3})
		done <- err
	}()
	<-full
	close(d.gate)
	if err := <-done; err != nil || d.most != 3 {
		t.Errorf("%v; %d at a time, want 3", err, d.most)
	}
}

// counting says when an upload begins.
type counting struct {
	*there
	begins func()
}

func (c counting) Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (bool, error) {
	c.begins()
	return c.there.Upload(ctx, desc, src, told)
}

// TestPushFails leaves no manifest of which something is missing, which the
// destination looks for, and no name.
func TestPushFails(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name string
		make func(s *shelf, d *there) ocispec.Descriptor
		opts transfer.PushOptions
		kind error
		says string
	}{
		{"a layer is refused", func(s *shelf, d *there) ocispec.Descriptor {
			d.fails = map[digest.Digest]error{digest.FromString("b"): refused}
			return s.image("linux/amd64", "a", "b", "c")
		}, transfer.PushOptions{}, refused, ""},
		{"a manifest is refused", func(s *shelf, d *there) ocispec.Descriptor {
			one := s.image("linux/amd64", "a")
			d.fails = map[digest.Digest]error{one.Digest: refused}
			return s.index(one)
		}, transfer.PushOptions{AllPlatforms: true}, refused, ""},
		{"a layer is missing", func(s *shelf, _ *there) ocispec.Descriptor {
			one := s.image("linux/amd64", "a", "b")
			s.remove(digest.FromString("b"))
			return one
		}, transfer.PushOptions{}, iofs.ErrNotExist, "neither here nor there"},
		{"a layer has another size", func(s *shelf, _ *there) ocispec.Descriptor {
			one := s.image("linux/amd64", "a", "b")
			if err := os.Truncate(filepath.Join(s.dir, digest.FromString("b").String()), 9); err != nil {
				s.t.Fatal(err)
			}
			return one
		}, transfer.PushOptions{}, syscall.EIO, "9 bytes here"},
		{"a platform's manifest is missing", func(s *shelf, _ *there) ocispec.Descriptor {
			one, two := s.image("linux/amd64", "a"), s.image("linux/arm64", "a")
			s.remove(two.Digest)
			return s.index(one, two)
		}, transfer.PushOptions{AllPlatforms: true}, iofs.ErrNotExist, ""},
		{"a manifest's bytes are others", func(s *shelf, _ *there) ocispec.Descriptor {
			one := s.image("linux/amd64", "a")
			path := filepath.Join(s.dir, one.Digest.String())
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, bytes.ReplaceAll(b, []byte("amd64"), []byte("arm64")), 0o600)
			}
			if err == nil {
				b[len(b)-1] = ' '
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			return one
		}, transfer.PushOptions{}, syscall.EIO, "another digest"},
		{"no such platform", func(s *shelf, _ *there) ocispec.Descriptor {
			return s.index(s.image("linux/s390x", "a"))
		}, transfer.PushOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}}, iofs.ErrNotExist, "no image for linux/riscv64"},
		{"a manifest for another platform", func(s *shelf, _ *there) ocispec.Descriptor {
			return s.image("linux/s390x", "a")
		}, transfer.PushOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}}, iofs.ErrNotExist, "no image for linux/riscv64"},
		{"another digest is wanted", func(s *shelf, _ *there) ocispec.Descriptor {
			return s.image("linux/amd64", "a")
		}, transfer.PushOptions{Digest: digest.FromString("x")}, nil, "and not sha256:"},
		{"no manifest at all", func(s *shelf, _ *there) ocispec.Descriptor {
			return s.put("", []byte("{}"))
		}, transfer.PushOptions{}, nil, "neither a manifest nor an index"},
		{"too many indexes in one another", func(s *shelf, _ *there) ocispec.Descriptor {
			at := s.image("linux/amd64", "a")
			for range 6 {
				at = s.index(at)
			}
			return at
		}, transfer.PushOptions{AllPlatforms: true}, syscall.EIO, "more than 4 deep"},
		{"too many indexes on the way to a platform", func(s *shelf, _ *there) ocispec.Descriptor {
			at := s.image("linux/amd64", "a")
			for range 6 {
				at = s.index(at)
			}
			return at
		}, transfer.PushOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}, syscall.EIO, "more than 4 deep"},
		{"one digest of two sizes", func(s *shelf, _ *there) ocispec.Descriptor {
			one, two := s.image("linux/amd64", "a"), s.image("linux/arm64", "a", "b")
			b, err := os.ReadFile(filepath.Join(s.dir, two.Digest.String()))
			if err != nil {
				s.t.Fatal(err)
			}
			two = s.put(two.MediaType, bytes.ReplaceAll(b, []byte(`"size":1}`), []byte(`"size":2}`)))
			return s.index(one, two)
		}, transfer.PushOptions{AllPlatforms: true}, syscall.EIO, "bytes, and"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := newShelf(t), newThere(t)
			_, err := transfer.Push(t.Context(), s, c.make(s, d), d, &c.opts)
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Push = %v, want %v with %q", err, c.kind, c.says)
			}
			if d.named != "" {
				t.Errorf("%s has the name", d.named)
			}
		})
	}
}

// TestPushTooMuch is refused before anything is sent.
func TestPushTooMuch(t *testing.T) {
	s, d := newShelf(t), newThere(t)
	var all []ocispec.Descriptor
	for i := range 3 {
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		m.Config = s.put(ocispec.MediaTypeImageConfig, []byte("{}"))
		for j := range 4_000 {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(fmt.Sprint(i, " ", j)), Size: 1})
		}
		desc := s.putJSON(ocispec.MediaTypeImageManifest, m)
		all = append(all, desc)
	}
	_, err := transfer.Push(t.Context(), s, s.index(all...), d, &transfer.PushOptions{AllPlatforms: true})
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "more than 10000 objects") || len(d.has) > 0 {
		t.Errorf("Push = %v; %d objects are there", err, len(d.has))
	}
}

// TestPushCanceled ends at once, whatever hangs.
func TestPushCanceled(t *testing.T) {
	s, d := newShelf(t), newThere(t)
	d.gate = make(chan struct{})
	c, cancel := context.WithCancel(t.Context())
	_, err := transfer.Push(c, s, s.image("linux/amd64", "a", "b"), counting{d, cancel}, nil)
	if !errors.Is(err, context.Canceled) || d.named != "" {
		t.Errorf("Push = %v, want context.Canceled", err)
	}
}

// A heldShelf is one that may lose whatever is not held.
type heldShelf struct {
	*shelf
	held map[digest.Digest]int
	all  int
}

func (s *heldShelf) Hold(dgst digest.Digest) (func(), error) {
	s.held[dgst]++
	s.all++
	return func() { s.held[dgst]-- }, nil
}

func (s *heldShelf) Blob(dgst digest.Digest) (*os.File, error) {
	if s.held[dgst] == 0 {
		s.t.Errorf("%s is opened and not held", dgst)
	}
	return s.shelf.Blob(dgst)
}

// A resumed destination has had bytes of each larger blob from an earlier run, and loses
// the session if it is to.
type resumed struct {
	*there
	had   int64
	loses bool
}

func (d *resumed) Upload(ctx context.Context, desc ocispec.Descriptor, src io.ReaderAt, told func(int64)) (bool, error) {
	if d.had < desc.Size {
		told(d.had)
	}
	if d.loses {
		told(0)
	}
	return d.there.Upload(ctx, desc, src, told)
}

// TestPushGoesOn counts what was there before as that, unless it was lost.
func TestPushGoesOn(t *testing.T) {
	const had = 300_000
	for _, loses := range []bool{false, true} {
		s := newShelf(t)
		root := s.image("linux/amd64", strings.Repeat("sent", 200_000))
		d := &resumed{newThere(t), had, loses}
		var last transfer.Event
		pushed, err := transfer.Push(t.Context(), s, root, d, &transfer.PushOptions{Parallel: 1, Report: func(e transfer.Event) {
			if e.Desc.Size == 800_000 {
				last = e
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		want, sent := int64(had), pushed.Total-had
		if loses {
			want, sent = 0, pushed.Total
		}
		if last.State != transfer.Done || last.Had != want || pushed.Sent != sent {
			t.Errorf("loses %t: last is %+v and %d bytes were sent, want %d had and %d sent", loses, last, pushed.Sent, want, sent)
		}
	}
}

// TestPushHolds holds all that is pushed, once, until the end.
func TestPushHolds(t *testing.T) {
	s := &heldShelf{shelf: newShelf(t), held: make(map[digest.Digest]int)}
	root := s.index(s.image("linux/amd64", "a", "b", "foreign"), s.image("linux/arm64", "a", "c"))
	d := newThere(t)
	held := 0
	opts := &transfer.PushOptions{AllPlatforms: true, Parallel: 1, Report: func(transfer.Event) { held = max(held, len(s.held)) }}
	if _, err := transfer.Push(t.Context(), s, root, d, opts); err != nil {
		t.Fatal(err)
	}
	if held != 8 || s.all != 8 {
		t.Errorf("%d are held together, and %d in all, want 8: an index, 2 manifests, 2 configs and 3 layers", held, s.all)
	}
	for dgst, n := range s.held {
		if n != 0 {
			t.Errorf("%s is held still", dgst)
		}
	}
}
