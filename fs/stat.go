package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/locator"
)

// An Info is what is known of a file of a mount. What is not known, or the file
// has not, is the zero value.
type Info struct {
	Path      string // from the mount's root
	Kind      string // root, host, repository, object, image, tag; of others file, link, directory, device or fifo
	Locator   string // of the object, and of the object that a link leads to
	Digest    digest.Digest
	MediaType string
	Layer     digest.Digest // of an image's file: from which its attributes and content are
	View      string        // and whether by that layer's tar or by its table of contents
	State     string        // absent, partial or complete
	Size      int64         // as stat tells it, but of a link that of the object that it leads to; -1 is not known
	Local     int64         // bytes of the object that are here
	Committed time.Time
	Target    string    // of a link
	Until     time.Time // for which a tag's target holds
}

// Stat tells what is known of a path below the mount's root, and asks nobody.
// Links are followed, but for the last element. The error is iofs.ErrNotExist
// for what can't exist, and syscall.ENETUNREACH where a manifest says whether
// it does that is not here.
func (m *Mounted) Stat(name string) (Info, error) {
	if len(name) > maxPath {
		return Info{}, fmt.Errorf("stat: %w", syscall.ENAMETOOLONG)
	}
	w := m.s.walker()
	defer w.s.tasks.Wait()
	n, err := w.walk(context.Background(), name)
	if err != nil {
		return Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return w.info(context.Background(), n), nil
}

// maxPath is the longest path that Stat takes, in bytes: Linux's own limit.
const maxPath = 4096

// A walker goes through the names of a mount without asking anybody, and leaves
// no trace: on a server beside the mount's, whose source has what is held.
type walker struct {
	mount *server
	s     *server
}

func (s *server) walker() *walker {
	opts := s.opts
	opts.Log = slog.New(slog.DiscardHandler)
	opts.TagTTL = forever // what was told once is what is known
	beside := newServer(heldSource{s.src}, s.hosts, opts)
	beside.quiet, beside.top = true, s.top
	beside.images.documents, beside.images.hints, beside.images.referred = s.images.documents, s.images.hints, s.images.referred
	return &walker{mount: s, s: beside}
}

// walk finds the node of a path.
func (w *walker) walk(ctx context.Context, name string) (node, error) {
	at := []node{w.s.top(w.s)} // the node and those above it
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		elem := rest[0]
		rest = rest[1:]
		switch elem {
		case "", ".":
			continue
		case "..":
			if len(at) == 1 {
				return nil, fmt.Errorf("above the mount: %w", iofs.ErrInvalid)
			}
			at = at[:len(at)-1]
			continue
		}
		n, err := w.lookup(ctx, at[len(at)-1], elem)
		if err != nil {
			return nil, err
		}
		l, ok := n.(link)
		if !ok || len(rest) == 0 {
			at = append(at, n)
			continue
		}
		target, err := l.readlink(ctx)
		if err != nil {
			return nil, err
		}
		if links++; links > maxLinks {
			return nil, syscall.ELOOP
		}
		if path.IsAbs(target) {
			return nil, fmt.Errorf("%s is a link to %q, out of the mount: %w", l, target, iofs.ErrInvalid)
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at[len(at)-1], nil
}

func (w *walker) lookup(ctx context.Context, n node, elem string) (node, error) {
	dir, ok := n.(directory)
	if !ok {
		return nil, syscall.ENOTDIR
	}
	if len(elem) > maxName {
		return nil, syscall.ENAMETOOLONG
	}
	n, err := dir.lookup(ctx, elem)
	if err != nil {
		return nil, err
	}
	if t, ok := n.(*tagLink); ok {
		if bound := w.mount.tags.bound(t.path); bound != nil {
			return bound, nil
		}
	}
	return n, nil
}

// bound is the link that look-ups of path return, if it has its target.
func (ts *tags) bound(path string) *tagLink {
	if t, ok := ts.current.get(path); ok && t.descriptor().Digest != "" {
		return t
	}
	return nil
}

func (w *walker) info(ctx context.Context, n node) Info {
	info := Info{Path: n.String(), Kind: kindOf(n)}
	if r, ok := n.(*repository); ok {
		info.Locator = locator.Locator{Host: r.host, Path: r.repo}.Canonical().String()
		if r.repo == "" {
			info.Locator = r.host
		}
	}
	about := n
	if r, ok := n.(*treeRoot); ok {
		_ = r.ask(ctx) // what is not here is not told
	}
	if l, ok := n.(link); ok {
		if target, err := l.readlink(ctx); err == nil {
			info.Target = target
			if _, own := n.(*treeLink); !own { // that is the image's file, as any other
				about, _ = w.walk(ctx, path.Dir(n.String())+"/"+target)
			}
		}
	}
	if t, ok := n.(*tagLink); ok && t.s == w.mount {
		info.Until = t.ends()
	}
	if a := n.attributes(); a.mode&syscall.S_IFMT != syscall.S_IFDIR {
		info.Size = a.size
		if a.valid == 0 && info.Target == "" {
			info.Size = -1
		}
	}
	if a, ok := about.(attributed); ok {
		info.attribute(a)
	}
	if info.Target != "" && about != n {
		info.Size = w.sizeOf(info)
	}
	return info
}

// sizeOf is the size of the object that a link leads to, -1 if it is not known.
func (w *walker) sizeOf(i Info) int64 {
	loc, err := w.s.hosts.ParseLocator(i.Locator)
	if err != nil || i.Digest == "" {
		return -1
	}
	return w.s.hint(loc, i.Digest).Size
}

// attribute takes over what the extended attributes tell.
func (i *Info) attribute(n attributed) {
	get := func(name string) string {
		v, err := n.xattr("user.distfs." + name)
		if err != nil {
			return ""
		}
		return v
	}
	i.Locator, i.Digest, i.MediaType, i.State = get("locator"), digest.Digest(get("digest")), get("mediatype"), get("state")
	i.Layer, i.View = digest.Digest(get("layer")), get("view")
	i.Local, _ = strconv.ParseInt(get("local"), 10, 64)
	i.Committed, _ = time.Parse(time.RFC3339, get("committed"))
}

func kindOf(n node) string {
	switch n := n.(type) {
	case *root:
		return "root"
	case *repository:
		if n.repo == "" {
			return "host"
		}
		return "repository"
	case *lazy, *whole:
		return "object"
	case *treeRoot:
		if n.only != nil {
			return "root"
		}
	case *imageDir:
		return "image"
	case *tagLink:
		return "tag"
	}
	switch n.attributes().mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return "directory"
	case syscall.S_IFLNK:
		return "link"
	case syscall.S_IFCHR, syscall.S_IFBLK:
		return "device"
	case syscall.S_IFIFO:
		return "fifo"
	}
	return "file"
}

// ends is until when look-ups return the link.
func (t *tagLink) ends() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until
}

// A heldSource has what is held, and asks nobody.
type heldSource struct{ Source }

// errNotHeld is what the network would have to be asked for.
var errNotHeld = fmt.Errorf("not known here: %w", syscall.ENETUNREACH)

func (h heldSource) Resolve(_ context.Context, ref locator.Reference, _ ...string) (ocispec.Descriptor, error) {
	held, err := h.Tags(ref.Locator)
	if desc, ok := held[ref.Tag]; ok && err == nil {
		return desc, nil
	}
	return ocispec.Descriptor{}, errNotHeld
}

func (heldSource) Referrers(context.Context, locator.Locator, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, errNotHeld
}

func (h heldSource) Stat(_ context.Context, loc locator.Locator, hint ocispec.Descriptor) (ocispec.Descriptor, error) {
	if desc, ok := h.Known(loc, hint.Digest); ok {
		return desc, nil
	}
	return ocispec.Descriptor{}, errNotHeld
}

func (h heldSource) OpenSparse(context.Context, locator.Locator, ocispec.Descriptor) (Object, error) {
	return nil, errNotHeld
}

func (h heldSource) Range(context.Context, locator.Locator, ocispec.Descriptor, []byte, int64) (int, error) {
	return 0, errNotHeld
}

func (h heldSource) Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (Object, error) {
	_, known := h.Known(loc, desc.Digest)
	if _, committed := h.Local(loc, desc.Digest); !known || committed.IsZero() {
		return nil, errNotHeld
	}
	return h.Source.Open(ctx, loc, desc)
}
