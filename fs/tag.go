package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"strconv"
	"sync"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/locator"
)

const (
	// staleAfter is how long a remote may take for a tag that is known
	// already; after it the last known digest serves on.
	staleAfter = 2 * time.Second
	// staleHolds is for how long it does, before the remote is asked again.
	staleHolds = 5 * time.Second
)

// maxTagLinks is how many links of tags are remembered, whether the kernel
// knows them or not. One that is not is asked for anew.
const maxTagLinks = 1 << 13

// tags are the links of tags.
type tags struct {
	mu      sync.Mutex
	current *recent[string, *tagLink] // that look-ups return, by the path as it was spelled
	last    uint64                    // the number of the last resolution; guarded by mu
}

// A tagLink is one resolution of a tag. It gets its target when it is asked
// for it the first time, and keeps it for life: the kernel caches what a link
// says by its inode. When the target has served its time, a look-up finds
// another resolution.
type tagLink struct {
	s    *server
	id   identity
	loc  locator.Locator
	name locator.Name
	path string
	last ocispec.Descriptor // what the resolution before this one found
	said bool               // that one served what was known before, and the log says why

	asked flight[struct{}]
	mu    sync.Mutex
	stale bool               // desc is what was known before; guarded by mu
	desc  ocispec.Descriptor // the zero value until it is resolved; guarded by mu
	until time.Time          // for which look-ups return this link; guarded by mu
}

var (
	_ = asker((*tagLink)(nil))
	_ = link((*tagLink)(nil))
)

// tag returns the link that stands for the tag at present, without asking.
func (s *server) tag(loc locator.Locator, name locator.Name, path string) (node, error) {
	if s.opts.Offline {
		if held, err := s.src.Tags(loc); err != nil || !s.leads(loc, held[name.Tag]) {
			return nil, iofs.ErrNotExist
		}
	}
	s.tags.mu.Lock()
	defer s.tags.mu.Unlock()
	t, ok := s.tags.current.get(path)
	if ok && !t.isOver() {
		return t, nil
	}
	s.tags.last++
	next := &tagLink{s: s, loc: loc, name: name, path: path}
	next.id = identify("tag", path, strconv.FormatUint(s.tags.last, 10))
	if ok {
		next.last, next.said = t.descriptor(), t.isStale()
	}
	s.tags.current.put(path, next, 1)
	return next, nil
}

// leads says whether what a tag stands for offline is there: its manifest may have been
// pruned since.
func (s *server) leads(loc locator.Locator, to ocispec.Descriptor) bool {
	return to.Digest != "" && s.here(loc, to.Digest)
}

func (t *tagLink) identity() identity { return t.id }

func (t *tagLink) String() string { return t.path }

func (t *tagLink) descriptor() ocispec.Descriptor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.desc
}

func (t *tagLink) isStale() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stale
}

func (t *tagLink) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.desc.Digest != "" && !time.Now().Before(t.until)
}

func (t *tagLink) attributes() attributes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.desc.Digest == "" {
		return attributes{mode: syscall.S_IFLNK | 0o777}
	}
	return linkAttributes(t.target(), max(0, time.Until(t.until)))
}

// target is beside the link, in the directory as it was spelled; a twin's is a
// twin.
func (t *tagLink) target() string {
	to := locator.Name{Kind: locator.Image, Repo: t.name.Repo, Digest: t.desc.Digest, Twin: t.name.Twin}
	return to.String()
}

func (t *tagLink) readlink(ctx context.Context) (string, error) {
	if err := t.ask(ctx); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.target(), nil
}

// ask resolves the tag, unless that was done.
func (t *tagLink) ask(ctx context.Context) error {
	if t.descriptor().Digest != "" {
		return nil
	}
	_, err := t.asked.do(ctx, &t.s.tasks, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, t.resolve(ctx)
	})
	return err
}

// resolve binds the link. What the tag was before serves on if the remote does
// not answer in time, or answers anything but that there is no such tag; the
// log says so once, until the remote answers again.
func (t *tagLink) resolve(ctx context.Context) error {
	last := t.lastKnown()
	if t.s.opts.Offline {
		if !t.s.leads(t.loc, last) {
			return iofs.ErrNotExist
		}
		t.bind(last, offlineHolds, false)
		return nil
	}
	if last.Digest != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleAfter)
		defer cancel()
	}
	desc, err := t.s.src.Resolve(ctx, locator.Reference{Locator: t.loc, Tag: t.name.Tag})
	switch {
	case err == nil:
		t.s.learn(t.loc, desc)
		t.bind(desc, t.s.opts.TagTTL, false)
		return nil
	case last.Digest == "" || errors.Is(err, iofs.ErrNotExist) || errors.Is(ctx.Err(), context.Canceled):
		return err
	}
	if !t.said {
		t.s.log.Warn("the last known digest of the tag serves on", "path", t.path, "digest", last.Digest, "err", bounded(err))
	}
	t.bind(last, staleHolds, true)
	return nil
}

// lastKnown is what the tag was, to this mount or to the store.
func (t *tagLink) lastKnown() ocispec.Descriptor {
	if t.last.Digest != "" {
		return t.last
	}
	held, err := t.s.src.Tags(t.loc)
	if err != nil {
		t.s.log.Warn("tags", "path", t.path, "err", err)
	}
	return held[t.name.Tag]
}

func (t *tagLink) bind(desc ocispec.Descriptor, holds time.Duration, stale bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.desc, t.stale, t.until = desc, stale, time.Now().Add(holds)
}
