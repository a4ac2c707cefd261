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

// tags are the links of tags, each by the path as it was spelled. The zero
// value is ready.
type tags struct {
	mu      sync.Mutex
	current map[string]*tagLink // that look-ups return; guarded by mu
	last    uint64              // the number of the last resolution; guarded by mu
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

	asked flight[struct{}]
	mu    sync.Mutex
	desc  ocispec.Descriptor // the zero value until it is resolved; guarded by mu
	until time.Time          // for which look-ups return this link; guarded by mu
}

var (
	_ = asker((*tagLink)(nil))
	_ = link((*tagLink)(nil))
	_ = forgettable((*tagLink)(nil))
)

// tag returns the link that stands for the tag at present, without asking.
func (s *server) tag(loc locator.Locator, name locator.Name, path string) (node, error) {
	if s.opts.Offline {
		if held, err := s.src.Tags(loc); err != nil || held[name.Tag].Digest == "" {
			return nil, iofs.ErrNotExist
		}
	}
	s.tags.mu.Lock()
	defer s.tags.mu.Unlock()
	t := s.tags.current[path]
	if t != nil && !t.isOver() {
		return t, nil
	}
	s.tags.last++
	next := &tagLink{s: s, loc: loc, name: name, path: path}
	next.id = identify("tag", path, strconv.FormatUint(s.tags.last, 10))
	if t != nil {
		next.last = t.descriptor()
	}
	if s.tags.current == nil {
		s.tags.current = make(map[string]*tagLink)
	}
	s.tags.current[path] = next
	return next, nil
}

// forgotten lets go of a link that the kernel no longer knows. What its tag
// was is in the store.
func (t *tagLink) forgotten() {
	t.s.tags.mu.Lock()
	defer t.s.tags.mu.Unlock()
	if t.s.tags.current[t.path] == t {
		delete(t.s.tags.current, t.path)
	}
}

func (t *tagLink) identity() identity { return t.id }

func (t *tagLink) String() string { return t.path }

func (t *tagLink) descriptor() ocispec.Descriptor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.desc
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

// target is beside the link, in the directory as it was spelled.
func (t *tagLink) target() string { return t.name.Repo + "@" + string(t.desc.Digest) }

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
// not answer in time, or answers anything but that there is no such tag.
func (t *tagLink) resolve(ctx context.Context) error {
	last := t.lastKnown()
	if t.s.opts.Offline {
		if last.Digest == "" {
			return iofs.ErrNotExist
		}
		t.bind(last, offlineHolds)
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
		t.s.images.learn(t.loc, desc)
		t.bind(desc, t.s.opts.TagTTL)
		return nil
	case last.Digest == "" || errors.Is(err, iofs.ErrNotExist) || errors.Is(ctx.Err(), context.Canceled):
		return err
	}
	t.s.log.Warn("the last known digest of the tag serves on", "path", t.path, "digest", last.Digest, "err", err)
	t.bind(last, staleHolds)
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

func (t *tagLink) bind(desc ocispec.Descriptor, holds time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.desc, t.until = desc, time.Now().Add(holds)
}
