package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	dir string

	mu     sync.Mutex
	blobs  map[string]*blob // by repository and digest
	tags   map[string]ocispec.Descriptor
	seen   map[string]ocispec.Descriptor // tags as the store knows them
	asked  []string                      // what a network would have been asked
	block  chan struct{}                 // not nil: Stat and Resolve wait for it
	refuse error                         // not nil: what Stat and Resolve answer
}

// A blob is one object of a repository.
type blob struct {
	s       *source
	loc     locator.Locator
	desc    ocispec.Descriptor
	content []byte // what arrives, which need not have the digest

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
		dir: tb.TempDir(), blobs: map[string]*blob{},
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
	b.known = true
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

func (s *source) Repos(prefix string) ([]string, error) {
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

func (s *source) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (fs.Object, error) {
	b := s.get(loc, desc.Digest)
	if b == nil {
		return nil, fmt.Errorf("open %s: 404: %w", desc.Digest, iofs.ErrNotExist)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	b.all++
	return &object{b: b}, nil
}

// An object is one open of a blob.
type object struct {
	b    *blob
	once sync.Once
}

var errMismatch = fmt.Errorf("the digest does not match: %w", syscall.EIO)

func (o *object) Size() int64 { return int64(len(o.b.content)) }

func (o *object) Bad() error {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	return o.b.bad
}

func (o *object) File() *os.File {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	return o.b.file
}

func (o *object) Close() error {
	o.once.Do(func() { o.b.edit(func(b *blob) { b.opens-- }) })
	return nil
}

func (o *object) Wait(ctx context.Context, off, n int64) error {
	o.b.edit(func(b *blob) { b.waiting++ })
	defer func() { o.b.edit(func(b *blob) { b.waiting-- }) }()
	for {
		o.b.mu.Lock()
		change, err := o.b.change, errors.Join(o.b.fail, o.b.bad)
		ready := o.b.fetch(off/mib, (off+n+mib-1)/mib)
		o.b.mu.Unlock()
		if ready || err != nil {
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch says whether the MiBs are here, and gets them if they are not gated.
func (b *blob) fetch(first, end int64) bool {
	if b.file != nil {
		return true
	}
	for i := first; i < end; i++ {
		if !b.gated {
			b.arrived[i] = true
		}
		if !b.arrived[i] {
			return false
		}
	}
	return true
}

func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), o.Size())
	if err := o.Wait(ctx, off, end-off); err != nil {
		return 0, err
	}
	if f := o.File(); f != nil {
		return f.ReadAt(p, off)
	}
	n := copy(p, o.b.content[off:end])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (o *object) Verify(ctx context.Context) error {
	o.b.edit(func(b *blob) { b.verifying++ })
	defer func() { o.b.edit(func(b *blob) { b.verifying-- }) }()
	if err := o.Wait(ctx, 0, o.Size()); err != nil {
		return err
	}
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	if o.b.desc.Digest.Algorithm().FromBytes(o.b.content) != o.b.desc.Digest {
		o.b.bad = errMismatch
		return o.b.bad
	}
	return o.b.commit()
}

// content returns n bytes that differ from MiB to MiB and by seed.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>12)*7 ^ seed
	}
	return b
}
