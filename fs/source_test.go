package fs_test

import (
	"context"
	"fmt"
	iofs "io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/fs"
	"distfs/locator"
)

// A source is an fs.Source in memory. A blob that is added is fetched when it
// is read; what was gated is fetched only when it is released.
type source struct {
	dir    string
	mounts int // of it

	mu     sync.Mutex
	blobs  map[string]*blob // by repository and digest
	tags   map[string]ocispec.Descriptor
	seen   map[string]ocispec.Descriptor   // tags as the store knows them
	lists  map[string][]string             // of tags, by repository, in pages of 1000
	refer  map[string][]ocispec.Descriptor // what refers to an object, by key
	images []locator.Reference             // that are whole
	listed []string                        // prefixes whose names were asked for

	indexes map[digest.Digest][]byte // of layers, kept
	indexed int                      // how often one was kept
	turns   map[digest.Digest]chan struct{}
	files   int                    // of layers, that are open
	file    *os.File               // not nil: what files of layers lie in, as wholes
	kept    map[digest.Digest]bool // those that were verified
	streams streams

	changed   func([]string) // who watches
	spoilt    func(digest.Digest)
	watching  map[string]bool // what
	unwatched error           // not nil: what Add answers
	asked     []string        // what a network would have been asked
	block     chan struct{}   // not nil: Stat and Resolve wait for it
	refuse    error           // not nil: what Stat and Resolve answer
}

// A blob is one object of a repository.
type blob struct {
	s       *source
	loc     locator.Locator
	desc    ocispec.Descriptor
	content []byte // what arrives, which need not have the digest
	next    []byte // not nil: what arrives for who opens it after that was found

	mu      sync.Mutex
	known   bool           // the repository answered for it
	gated   bool           // nothing arrives but what is released
	arrived map[int64]bool // by MiB
	change  chan struct{}  // closed at any change
	bad     error
	fail    error // what Wait and Verify answer
	file    *os.File
	lost    []*os.File
	time    time.Time
	opens   int
	all     int // opens that there were

	waiting, verifying int // calls that have not returned
}

const mib = 1 << 20

func newSource(tb testing.TB) *source {
	tb.Helper()
	return &source{
		dir: tb.TempDir(), streams: streams{dir: tb.TempDir()}, blobs: map[string]*blob{},
		tags: map[string]ocispec.Descriptor{}, seen: map[string]ocispec.Descriptor{},
	}
}

func key(loc locator.Locator, dgst digest.Digest) string { return loc.String() + "@" + string(dgst) }

// add adds a blob that nobody has asked for yet.
func (s *source) add(repo, mediaType string, content []byte) *blob {
	return s.addAs(repo, mediaType, digest.FromBytes(content), content)
}

func (s *source) addAs(repo, mediaType string, dgst digest.Digest, content []byte) *blob {
	host, path, _ := strings.Cut(repo, "/")
	b := &blob{
		s: s, loc: locator.Locator{Host: host, Path: path}, content: content,
		desc:    ocispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: int64(len(content))},
		arrived: map[int64]bool{}, change: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[key(b.loc, dgst)] = b
	return b
}

// path is where the blob is below a mount.
func (b *blob) path() string { return b.loc.String() + "/" + string(b.desc.Digest) }

// edit changes a blob and wakes who waits for it.
func (b *blob) edit(f func(b *blob)) *blob {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
	close(b.change)
	b.change = make(chan struct{})
	return b
}

// gate holds all back.
func (b *blob) gate() *blob { return b.edit(func(b *blob) { b.gated = true }) }

// release lets the MiBs from first up to end arrive.
func (b *blob) release(first, end int64) {
	b.edit(func(b *blob) {
		for i := first; i < end; i++ {
			b.arrived[i] = true
		}
	})
}

// complete commits the blob, as if it had been fetched before.
func (b *blob) complete(tb testing.TB) *blob {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.commit(); err != nil {
		tb.Fatal(err)
	}
	return b
}

// lose makes the blob one that was never fetched. Its file is still open, as
// it would be for whoever has the object open.
func (b *blob) lose() {
	b.edit(func(b *blob) {
		b.lost = append(b.lost, b.file)
		b.file, b.time = nil, time.Time{}
		clear(b.arrived)
	})
}

// commit is called with b.mu held.
func (b *blob) commit() error {
	b.known = true
	if b.file != nil {
		return nil
	}
	f, err := os.CreateTemp(b.s.dir, "blob-")
	if err != nil {
		return err
	}
	if _, err := f.Write(b.content); err != nil {
		return err
	}
	os.Remove(f.Name())
	b.file, b.time = f, time.Unix(1700000000, 0)
	return nil
}

// waitFor returns when the blob is in a state.
func (b *blob) waitFor(tb testing.TB, is func(b *blob) bool) {
	tb.Helper()
	ctx := within(tb, timeLimit)
	for {
		b.mu.Lock()
		change, ok := b.change, is(b)
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			tb.Fatal("waited too long")
		}
	}
}

func digestOf(b []byte) digest.Digest { return digest.FromBytes(b) }

func (b *blob) openNow() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opens
}

func (s *source) StoreDir() string { return s.dir }

func (s *source) Hold(digest.Digest) (release func(), err error) { return func() {}, nil }

func (s *source) get(loc locator.Locator, dgst digest.Digest) *blob {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[key(loc, dgst)]
}

// ask notes what is asked of the network.
func (s *source) ask(ctx context.Context, what string) error {
	s.mu.Lock()
	s.asked = append(s.asked, what)
	block, refuse := s.block, s.refuse
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return refuse
}

// requests returns what was asked since it was called last.
func (s *source) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *source) set(f func(s *source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *source) Resolve(ctx context.Context, ref locator.Reference, _ ...string) (ocispec.Descriptor, error) {
	if err := s.ask(ctx, "resolve "+ref.String()); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", ref, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	desc, ok := s.tags[ref.String()]
	if !ok {
		return desc, fmt.Errorf("resolve %s: 404: %w", ref, iofs.ErrNotExist)
	}
	s.seen[ref.String()] = desc
	return desc, nil
}

func (s *source) Stat(ctx context.Context, loc locator.Locator, hint ocispec.Descriptor) (ocispec.Descriptor, error) {
	if desc, ok := s.Known(loc, hint.Digest); ok {
		return desc, nil
	}
	if err := s.ask(ctx, "stat "+key(loc, hint.Digest)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("stat %s: %w", hint.Digest, err)
	}
	b := s.get(loc, hint.Digest)
	if b == nil {
		return hint, fmt.Errorf("stat %s: 404: %w", hint.Digest, iofs.ErrNotExist)
	}
	b.edit(func(b *blob) { b.known = true })
	return b.desc, nil
}

func (s *source) Known(loc locator.Locator, dgst digest.Digest) (ocispec.Descriptor, bool) {
	b := s.get(loc, dgst)
	if b == nil {
		return ocispec.Descriptor{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.desc, b.known
}

func (s *source) Local(loc locator.Locator, dgst digest.Digest) (int64, time.Time) {
	b := s.get(loc, dgst)
	if b == nil {
		return 0, time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		return b.desc.Size, b.time
	}
	return min(b.desc.Size, int64(len(b.arrived))*mib), time.Time{}
}

func (s *source) knownBlobs(f func(b *blob)) {
	s.mu.Lock()
	blobs := slices.Collect(maps.Values(s.blobs))
	s.mu.Unlock()
	for _, b := range blobs {
		b.mu.Lock()
		known := b.known
		b.mu.Unlock()
		if known {
			f(b)
		}
	}
}

func (s *source) Images() ([]locator.Reference, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.images), nil
}

func (s *source) Watch(changed func([]string), spoilt func(digest.Digest)) (fs.Watcher, error) {
	s.set(func(s *source) { s.changed, s.spoilt, s.watching = changed, spoilt, map[string]bool{} })
	return watcher{s}, nil
}

// A watcher is that of the source's last mount.
type watcher struct{ s *source }

func (w watcher) Add(prefix string) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.watching[prefix] = true
	return w.s.unwatched
}

func (w watcher) Remove(prefix string) { w.s.set(func(s *source) { delete(s.watching, prefix) }) }

func (w watcher) Sync() error { return nil }

func (w watcher) Close() error { return nil }

// tell says that something changed.
func (s *source) tell(prefixes ...string) {
	s.mu.Lock()
	changed := s.changed
	s.mu.Unlock()
	changed(prefixes)
}

// listings returns how often the names below prefix were asked for.
func (s *source) listings(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.listed {
		if p == prefix {
			n++
		}
	}
	return n
}

func (s *source) Repos(prefix string) ([]string, error) {
	s.set(func(s *source) { s.listed = append(s.listed, prefix) })
	names := map[string]bool{}
	s.knownBlobs(func(b *blob) {
		rest, ok := strings.CutPrefix("/"+b.loc.String(), "/"+prefix)
		rest = strings.TrimPrefix(rest, "/")
		if name, _, _ := strings.Cut(rest, "/"); ok && name != "" {
			names[name] = true
		}
	})
	return slices.Sorted(maps.Keys(names)), nil
}

func (s *source) Objects(loc locator.Locator) ([]ocispec.Descriptor, error) {
	var descs []ocispec.Descriptor
	s.knownBlobs(func(b *blob) {
		if b.loc == loc {
			descs = append(descs, b.desc)
		}
	})
	slices.SortFunc(descs, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return descs, nil
}

func (s *source) Tags(loc locator.Locator) (map[string]ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := map[string]ocispec.Descriptor{}
	for ref, desc := range s.seen {
		if tag, ok := strings.CutPrefix(ref, loc.String()+":"); ok {
			tags[tag] = desc
		}
	}
	return tags, nil
}

func (s *source) ListTags(ctx context.Context, loc locator.Locator) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := 0; ; i++ {
			if i%1000 == 0 {
				if err := s.ask(ctx, "tags "+loc.String()); err != nil {
					yield("", err)
					return
				}
			}
			s.mu.Lock()
			list, known := s.lists[loc.String()]
			s.mu.Unlock()
			switch {
			case !known:
				yield("", fmt.Errorf("tags %s: 404: %w", loc, iofs.ErrNotExist))
				return
			case i == len(list) || !yield(list[i], nil):
				return
			}
		}
	}
}

func (s *source) Referrers(ctx context.Context, loc locator.Locator, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	if err := s.ask(ctx, "referrers "+key(loc, dgst)); err != nil {
		return nil, fmt.Errorf("referrers %s: %w", dgst, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refer[key(loc, dgst)], nil
}

func (s *source) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	b := s.get(loc, desc.Digest)
	if b == nil {
		return nil, fmt.Errorf("open %s: 404: %w", desc.Digest, iofs.ErrNotExist)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bad != nil && b.next != nil {
		b.content, b.next, b.bad = b.next, nil, nil
	}
	b.opens++
	b.all++
	return &object{b: b}, nil
}

// content returns n bytes that differ from MiB to MiB and by seed.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>12)*7 ^ seed
	}
	return b
}
