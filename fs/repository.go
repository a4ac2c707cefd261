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
	s       *server
	spelled string // the host as the path has it: in any case, or a twin
	host    string // the same as it is stored
	repo    string // the path below the host, "" for the host itself
}

var (
	_ = directory((*repository)(nil))
	_ = watchedDir((*repository)(nil))
	_ = forgettable((*repository)(nil))
)

// enterHost returns the directory of a host.
func (s *server) enterHost(spelled, host string) (node, error) {
	return (&repository{s: s, spelled: spelled, host: locator.CanonicalHost(host)}).enter("")
}

// enter returns the directory of that path below the host. Offline it is only
// there if the store holds something of it.
func (r *repository) enter(repo string) (node, error) {
	if r.s.opts.Offline && !r.s.holds(r.host, repo) {
		return nil, iofs.ErrNotExist
	}
	return &repository{s: r.s, spelled: r.spelled, host: r.host, repo: repo}, nil
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

func (r *repository) String() string { return join(r.spelled, r.repo) }

// stored is the path under which the store knows r.
func (r *repository) stored() string { return join(r.host, r.repo) }

func (r *repository) watchedPrefix() string { return r.stored() }

func (r *repository) forgotten() { r.s.lists.forgotten(r) }

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
	if elem == tagsName && r.repo != "" {
		return newTagFile(r.s, r.locator(""), join(r.String(), elem)), nil
	}
	name, err := locator.ParseName(elem)
	if err != nil || locator.CheckPath(join(r.repo, name.Repo)) != nil {
		return nil, errNever
	}
	path := join(r.String(), elem)
	switch name.Kind {
	case locator.Component:
		return r.enter(join(r.repo, name.Repo))
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
	children, err := r.s.src.Repos(r.stored())
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

// tags are the links of the repository child that lead to what is here.
func (r *repository) tags(child string) []entry {
	tags, err := r.s.src.Tags(r.locator(child))
	if err != nil {
		r.s.log.Warn("list", "path", join(r.String(), child), "err", err)
	}
	var entries []entry
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if locator.CheckTag(tag) != nil || len(child)+1+len(tag) > maxName || !r.s.leads(r.locator(child), tags[tag]) {
			continue
		}
		entries = append(entries, entry{name: child + ":" + tag, mode: syscall.S_IFLNK})
	}
	return entries
}

// images are the image directories that were entered by name, or fetched, and
// can be listed themselves without a request, so that no walk fetches anything.
func (r *repository) images(ctx context.Context) []entry {
	names := append(r.s.visited.names(r.stored()), r.s.fetchedIn(r.stored())...)
	slices.Sort(names)
	var entries []entry
	for _, elem := range slices.Compact(names) {
		name, err := locator.ParseName(elem)
		if err != nil || !r.s.images.here(ctx, r.s, r.locator(name.Repo), name.Digest) {
			continue
		}
		entries = append(entries, directoryEntry(elem, identifyDirectory(join(r.String(), elem))))
	}
	return entries
}
