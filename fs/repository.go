package fs

import (
	"context"
	iofs "io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"distfs/locator"
)

// offlineHolds is for how long a name of the store holds: another process may
// add to it.
const offlineHolds = time.Second

// A repository is a directory below a host, or the host itself: a repository,
// a part of one's path, or both.
type repository struct {
	s    *server
	host string // as it was spelled
	repo string // the path below the host, "" for the host itself
}

var _ = directory((*repository)(nil))

// enterRepository returns the directory of that path. Offline it is only there
// if the store holds something of it.
func (s *server) enterRepository(host, repo string) (node, error) {
	if s.opts.Offline && !s.holds(host, repo) {
		return nil, iofs.ErrNotExist
	}
	return &repository{s: s, host: host, repo: repo}, nil
}

// holds says whether the store holds something of the repository, or of one
// whose path begins with it.
func (s *server) holds(host, repo string) bool {
	names, err := s.src.Repos(join(host, repo))
	if err == nil && len(names) > 0 {
		return true
	}
	if repo == "" {
		return false
	}
	loc := locator.Locator{Host: host, Path: repo}.Canonical()
	objects, _ := s.src.Objects(loc)
	tags, _ := s.src.Tags(loc)
	return len(objects)+len(tags) > 0
}

func (r *repository) identity() identity { return identifyDirectory(r.String()) }

func (r *repository) attributes() attributes {
	if r.s.opts.Offline {
		return directoryAttributes(offlineHolds)
	}
	return directoryAttributes(forever)
}

func (r *repository) String() string { return join(r.host, r.repo) }

// locator is the repository of the component name in r, or r itself for "".
func (r *repository) locator(name string) locator.Locator {
	return locator.Locator{Host: r.host, Path: join(r.repo, name)}.Canonical()
}

// join puts a slash between two paths that are not empty.
func join(path, elem string) string {
	if path == "" || elem == "" {
		return path + elem
	}
	return path + "/" + elem
}

func (r *repository) lookup(_ context.Context, elem string) (node, error) {
	name, err := locator.ParseName(elem)
	if err != nil || locator.CheckPath(join(r.repo, name.Repo)) != nil {
		return nil, errNever
	}
	path := join(r.String(), elem)
	switch name.Kind {
	case locator.Component:
		return r.s.enterRepository(r.host, join(r.repo, name.Repo))
	case locator.Object:
		return r.s.object(r.locator(""), name.Digest, path)
	case locator.Tag:
		return r.s.tag(r.locator(name.Repo), name, path)
	case locator.Image:
		return r.s.image(r.locator(name.Repo), name, path)
	}
	return nil, errNever
}

// list tells what is known: what the store holds, what a manifest names that
// was read, and the images that were entered. Tags are told offline only, for
// `ls -l` reads every link that it lists.
func (r *repository) list(ctx context.Context) ([]entry, error) {
	children, err := r.s.src.Repos(r.String())
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, child := range children {
		if name, err := locator.ParseName(child); err != nil || name.Kind != locator.Component {
			continue
		}
		entries = append(entries, directoryEntry(child, identifyDirectory(join(r.String(), child))))
		if r.s.opts.Offline {
			entries = append(entries, r.tags(child)...)
		}
	}
	entries = append(entries, r.images(ctx)...)
	return append(entries, r.objects()...), nil
}

// objects are the files in r: what the repository answered for, and what a
// manifest names that was read.
func (r *repository) objects() []entry {
	if r.repo == "" {
		return nil
	}
	loc := r.locator("")
	descs, err := r.s.src.Objects(loc)
	if err != nil {
		r.s.log.Warn("list", "path", r.String(), "err", err)
	}
	descs = append(descs, r.s.images.hints.collect(func(k objectKey) bool { return k.loc == loc })...)
	seen := make(map[digest.Digest]bool, len(descs))
	entries := make([]entry, 0, len(descs))
	for _, desc := range descs {
		if _, err := locator.ParseDigest(string(desc.Digest)); err != nil || seen[desc.Digest] {
			continue
		}
		seen[desc.Digest] = true
		if r.s.opts.Offline && !r.s.here(loc, desc.Digest) {
			continue
		}
		id := identifyObject(loc, desc.Digest, r.s.objects.attempt(objectKey{loc, desc.Digest}), formLazy)
		entries = append(entries, entry{name: string(desc.Digest), mode: syscall.S_IFREG, ino: id.ino})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries
}

// tags are the links of the repository child that are known.
func (r *repository) tags(child string) []entry {
	tags, err := r.s.src.Tags(r.locator(child))
	if err != nil {
		r.s.log.Warn("list", "path", join(r.String(), child), "err", err)
	}
	var entries []entry
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if locator.CheckTag(tag) != nil || len(child)+1+len(tag) > maxName {
			continue
		}
		entries = append(entries, entry{name: child + ":" + tag, mode: syscall.S_IFLNK})
	}
	return entries
}

// images are the image directories that were entered by name and can be listed
// themselves without a request, so that no walk fetches anything.
func (r *repository) images(ctx context.Context) []entry {
	var entries []entry
	for _, elem := range r.s.visited.names(r.String()) {
		name, err := locator.ParseName(elem)
		if err != nil || !r.s.images.here(ctx, r.s, r.locator(name.Repo), name.Digest) {
			continue
		}
		entries = append(entries, directoryEntry(elem, identifyDirectory(join(r.String(), elem))))
	}
	return entries
}
