package content_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// watchStore watches s until the test ends. wait returns once changed was called
// for the prefix, "*" being all of them.
func watchStore(t *testing.T, s *content.Store) (w *content.Watch, wait func(prefix string)) {
	t.Helper()
	calls := make(chan []string, 1000)
	w, err := s.Watch(func(prefixes []string) {
		if prefixes == nil {
			prefixes = []string{"*"}
		}
		calls <- prefixes
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, func(prefix string) {
		t.Helper()
		for {
			select {
			case got := <-calls:
				if slices.Contains(got, prefix) {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("nobody said that %q changed", prefix)
			}
		}
	}
}

func setObject(t *testing.T, s *content.Store, repo string, seed uint64) {
	t.Helper()
	b := randomBytes(seed, 10)
	if err := s.SetObject(repo, ocispec.Descriptor{MediaType: "a/b", Digest: digest.FromBytes(b), Size: 10}); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	s := newStore(t)
	other := open(t, s.Dir()) // as another process has it
	w, wait := watchStore(t, s)
	add := func(prefix string) {
		t.Helper()
		if err := w.Add(prefix); err != nil {
			t.Fatal(err)
		}
	}

	add("")
	setObject(t, other, "reg.example/team/app", 1)
	wait("")
	for _, prefix := range []string{"", "reg.example", "reg.example/team", "reg.example/team/app"} {
		add(prefix)
	}
	setObject(t, other, "reg.example/team/app", 2)
	wait("reg.example/team/app")
	setObject(t, other, "reg.example/team/other", 1)
	wait("reg.example/team")
	setObject(t, other, "b.example/x", 1)
	wait("")
	if err := other.DeleteObject("reg.example/team/app", digest.FromBytes(randomBytes(2, 10))); err != nil {
		t.Fatal(err)
	}
	wait("reg.example/team/app")

	// A directory that comes and goes can be added again.
	if err := os.RemoveAll(filepath.Join(s.Dir(), "repos/reg.example/team/app")); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil { // what is told of it may have been told with what came before
		t.Fatal(err)
	}
	if err := w.Add("reg.example/team/app"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Add of what is not there: %v, want fs.ErrNotExist", err)
	}
	setObject(t, other, "reg.example/team/app", 3)
	add("reg.example/team/app")
	setObject(t, other, "reg.example/team/app", 4)
	wait("reg.example/team/app")

	// What was there without objects is watched when it gets some.
	setObject(t, other, "reg.example/deep/below", 1)
	add("reg.example/deep")
	setObject(t, other, "reg.example/deep", 1)
	wait("reg.example/deep")
}

// TestWatchSync waits for nothing but Sync.
func TestWatchSync(t *testing.T) {
	s := newStore(t)
	other := open(t, s.Dir())
	setObject(t, other, "reg.example/app", 0)
	var told atomic.Int64
	w, err := s.Watch(func([]string) { told.Add(1) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add("reg.example/app"); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(100) {
		before := told.Load()
		setObject(t, other, "reg.example/app", 1+i)
		if err := w.Sync(); err != nil || told.Load() == before {
			t.Fatalf("Sync = %v, and what changed before it was not told", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Sync after Close: %v, want os.ErrClosed", err)
	}
}

// TestWatchAll tells of what may change any listing.
func TestWatchAll(t *testing.T) {
	s := newStore(t)
	_, wait := watchStore(t, s)
	blob := randomBytes(1, 100)
	dgst := digest.FromBytes(blob)
	if _, err := s.WriteBlob(context.Background(), "ref", bytes.NewReader(blob), 100, dgst); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(dgst); err != nil {
		t.Fatal(err)
	}
	wait("*")
	replaceIndex(t, s.Dir(), `{"schemaVersion":2,"manifests":[]}`)
	wait("*")
}

// replaceIndex replaces index.json as whoever writes it does.
func replaceIndex(t *testing.T, dir, index string) {
	t.Helper()
	aside := filepath.Join(dir, "aside")
	if err := os.WriteFile(aside, []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, filepath.Join(dir, ocispec.ImageIndexFile)); err != nil {
		t.Fatal(err)
	}
}

// TestWatchEnds has the Watch's bound, and its end.
func TestWatchEnds(t *testing.T) {
	s := newStore(t)
	w, _ := watchStore(t, s)
	const most = 4096
	for i := range most + 1 {
		repo := fmt.Sprintf("reg.example/a%d", i)
		if err := os.MkdirAll(filepath.Join(s.Dir(), "repos", repo), 0o700); err != nil {
			t.Fatal(err)
		}
		err := w.Add(repo)
		if i < most && err != nil || i == most && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Add number %d: %v", i+1, err)
		}
	}
	w.Remove("reg.example/a0")
	if err := w.Add(fmt.Sprintf("reg.example/a%d", most)); err != nil {
		t.Errorf("Add in the place of another: %v", err)
	}
	if err := w.Add("../x"); err == nil {
		t.Error("Add takes what is no repository")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Add(""); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Add after Close: %v, want os.ErrClosed", err)
	}
}

func TestImages(t *testing.T) {
	s := newStore(t)
	if got, err := s.Images(); err != nil || len(got) != 0 {
		t.Errorf("Images of an empty store = %v, %v", got, err)
	}
	replaceIndex(t, s.Dir(), `{"schemaVersion":2,"manifests":[
		{"mediaType":"a/b","digest":"sha256:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"a.b/c:1","x":"y"}},
		{"mediaType":"a/b","digest":"sha256:01","size":1}]}`)
	got, err := s.Images()
	if err != nil || len(got) != 1 || got[0].Digest != "sha256:00" || len(got[0].Annotations) != 1 || got[0].Annotations[ocispec.AnnotationRefName] != "a.b/c:1" {
		t.Errorf("Images = %+v, %v, want the one with a name", got, err)
	}
	replaceIndex(t, s.Dir(), `{"schemaVersion":2,"manifests":{`)
	if got, err := s.Images(); err == nil {
		t.Errorf("Images of a broken index.json = %v, without an error", got)
	}
}

// A blob that was found bad is told of, and one that was deleted is not.
func TestWatchSpoilt(t *testing.T) {
	s := newStore(t)
	bad, deleted := named(t, s, "b", []byte("right")).Digest, named(t, s, "c", []byte("deleted")).Digest
	var told []digest.Digest
	w, err := s.Watch(func([]string) {}, func(dgst digest.Digest) { told = append(told, dgst) })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rewrite(t, filepath.Join(s.Dir(), "blobs", "sha256", bad.Encoded()), []byte("wrong"))
	if err := s.Delete(deleted); err != nil {
		t.Fatal(err)
	}
	wantSpoilt(t, s, w, bad, &told)
}

// A blob that was found bad is told of whatever its digest's algorithm, though it is the first of that one.
func TestWatchSpoiltAlgorithms(t *testing.T) {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		s := newStore(t)
		var told []digest.Digest
		w, err := s.Watch(func([]string) {}, func(dgst digest.Digest) { told = append(told, dgst) })
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		right := []byte("right")
		bad := algorithm.FromBytes(right)
		if _, err := s.WriteBlob(t.Context(), "a", bytes.NewReader(right), int64(len(right)), bad); err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(s.Dir(), "blobs", algorithm.String(), bad.Encoded()), []byte("wrong"))
		wantSpoilt(t, s, w, bad, &told)
	}
}

// What was found bad is told of though the event was lost, also if it was repaired by then.
func TestWatchSpoiltUnseen(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	queued, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil || queued > 1<<16 {
		t.Skipf("a queue of %s events is too long to be filled here, %v", limit, err)
	}
	s := newStore(t)
	b := []byte("right")
	before, dgst := named(t, s, "a", []byte("before")).Digest, named(t, s, "b", b).Digest
	spoil := func(dgst digest.Digest) {
		t.Helper()
		rewrite(t, filepath.Join(s.Dir(), "blobs", "sha256", dgst.Encoded()), []byte("wrong"))
		if _, err := s.CheckBlob(t.Context(), dgst); !errors.Is(err, syscall.EIO) {
			t.Fatalf("CheckBlob = %v, want a mismatch", err)
		}
	}
	spoil(before) // not to be told of
	var told []digest.Digest
	busy, proceed := make(chan struct{}, 1), make(chan struct{})
	w, err := s.Watch(func([]string) {
		select {
		case busy <- struct{}{}:
		default:
		}
		<-proceed
	}, func(dgst digest.Digest) { told = append(told, dgst) })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	replaceIndex(t, s.Dir(), `{"schemaVersion":2,"manifests":[]}`)
	<-busy
	for i := range queued/2 + 1 { // each is made and closed
		name := filepath.Join(s.Dir(), strconv.Itoa(i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	spoil(dgst)
	named(t, s, "b", b)
	if err := s.DropAside(dgst); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []digest.Digest{dgst}) {
		t.Errorf("spoilt was called for %v, want %s", told, dgst)
	}
}

// wantSpoilt checks the blob bad, and wants its mismatch, and it alone, to be told.
func wantSpoilt(t *testing.T, s *content.Store, w *content.Watch, bad digest.Digest, told *[]digest.Digest) {
	t.Helper()
	if _, err := s.CheckBlob(t.Context(), bad); !errors.Is(err, syscall.EIO) {
		t.Fatalf("CheckBlob = %v, want a mismatch", err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*told, []digest.Digest{bad}) {
		t.Errorf("spoilt was called for %v, want %s", *told, bad)
	}
}
