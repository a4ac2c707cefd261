package layer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

// A builder makes the tree of an Index from entries in the order of their
// archive, as who unpacks them one after the other makes a tree on disk: a later
// entry takes the place of an earlier one, directories that have none spring into
// being, and a link on the way to a name is followed, with the root for the root.
type builder struct {
	nodes  builtNodes
	inodes Inodes
	texts  texts
	byName nameTable // of nodes that are not replaced
	steps  int64     // that may still be taken on the ways to names

	led    []uint32       // directories that had no entry when names first led through them
	linked []string       // what hard links that names led through were to
	hidden map[uint32]int // of directories in which lower layers' names are hidden, how many led there were then

	dir     string // where the last entry was, and
	dirNode uint32 // which node that is; valid as long as no link or directory was replaced
}

// A place is where an entry's content lies, and what it is.
type place struct {
	offset int64 // in the stream
	digest [sha256.Size]byte
	data   []Segment // of a sparse file; else nil
}

// The steps that one layer may take on the ways to its entries, names looked up
// and links followed: with links to links they can be made to be many.
const (
	layerSteps = 256 << 10
	entrySteps = 64 // besides, for each entry
	byteSteps  = 64 // bytes of a path that a link makes longer are a step
	maxLinks   = 40 // on the way to one name, as Linux has it
)

func newBuilder() *builder {
	b := &builder{byName: newNameTable(), hidden: make(map[uint32]int), steps: layerSteps}
	b.inodes.Add(impliedDir())
	b.nodes.add(built{})
	b.dir = "."
	return b
}

// impliedDir is a directory without an entry, as unpacking makes one: of 1970, so
// that it is always the same.
func impliedDir() Inode { return Inode{Kind: Dir, Implied: true, Mode: 0o755} }

// add takes the next entry, of a File with where its content is. A File's content
// may be told later: see set. The error is final.
func (b *builder) add(e *Entry, at place) error {
	b.steps += entrySteps
	switch {
	case e.Kind == Opaque || e.Kind == Whiteout:
		return b.hide(e)
	case e.Name == ".":
		return b.describe(0, e)
	}
	above, name := path.Split(e.Name)
	parent, err := b.parent(path.Clean(above))
	if err != nil {
		return err
	}
	switch e.Kind {
	case Dir:
		return b.describe(b.enter(parent, name), e)
	case Hardlink:
		return b.hardlink(parent, name, e)
	}
	ino := Inode{Kind: e.Kind}
	if e.Kind == File {
		ino.Size, ino.Digest, ino.Offset = e.Size, at.digest, at.offset
	}
	b.attributes(&ino, e, at.data)
	b.replace(parent, name, b.inodes.Add(ino))
	return nil
}

func (b *builder) inode(n uint32) *Inode {
	return b.inodes.At(b.nodes.at(n).inode)
}

// describe gives the directory n what its entry says.
func (b *builder) describe(n uint32, e *Entry) error {
	ino := b.inode(n)
	ino.Implied, ino.Ghost = false, false
	b.attributes(ino, e, nil)
	return nil
}

// attributes takes over what all kinds have. A link's own permissions are those
// of every link.
func (b *builder) attributes(ino *Inode, e *Entry, data []Segment) {
	ino.Mode, ino.UID, ino.GID = e.Mode, e.UID, e.GID
	if e.Kind == Symlink {
		ino.Mode = 0o777
	}
	ino.Seconds, ino.Nanoseconds = e.ModTime.Unix(), uint32(e.ModTime.Nanosecond())
	if e.ModTime.IsZero() {
		ino.Seconds = 0
	}
	more := Extra{Link: b.texts.keep(e.Link), Data: data, Major: e.Major, Minor: e.Minor}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		more.Xattrs = append(more.Xattrs, Xattr{b.texts.keep(name), b.texts.keep(e.Xattrs[name])})
	}
	ino.has(more)
}

// hide notes what hides something of the layers below: of a place where this
// layer has no directory, nothing.
func (b *builder) hide(e *Entry) error {
	dir, name := e.Name, ""
	if e.Kind == Whiteout {
		dir, name = path.Split(e.Name)
	}
	led := len(b.led)
	n, err := b.walk(path.Clean(dir), true)
	switch {
	case errors.Is(err, errAbsent):
		return nil
	case err != nil:
		return err
	case e.Kind == Opaque:
		b.inode(n).Opaque, b.hidden[n] = true, led
	default:
		b.whiteout(n, name)
	}
	return nil
}

// whiteout hides what lower layers have under a name, whether or not this layer
// has something there.
func (b *builder) whiteout(parent uint32, name string) {
	n, ok := b.find(parent, name)
	switch {
	case !ok || b.inode(n).Ghost:
		b.replace(parent, name, b.inodes.Add(Inode{Kind: Whiteout}))
	case b.inode(n).Kind == Dir:
		b.inode(n).Opaque, b.hidden[n] = true, len(b.led)
	}
}

// hardlink makes a further name of a file. One that this layer has not is one of
// the layers below.
func (b *builder) hardlink(parent uint32, name string, e *Entry) error {
	above, base := path.Split(e.Link)
	way, err := b.resolve(above)
	if err != nil {
		return fmt.Errorf("link to %.200q: %w", e.Link, err)
	}
	if dir, there := end(way); there {
		n, ok := b.find(dir, base)
		switch {
		case dir == parent && base == name: // it is itself, here or below
			return nil
		case ok && b.inode(n).Implied: // there may be a link below
		case ok && b.inode(n).Kind == Dir:
			return &refusal{fmt.Sprintf("a hard link to a directory, %.200q", e.Link), syscall.EPERM}
		case ok && b.inode(n).Kind != Whiteout:
			b.replace(parent, name, b.nodes.at(n).inode)
			return nil
		}
	}
	link := base
	for _, s := range slices.Backward(way) {
		link = s.name + "/" + link
	}
	if len(link) > maxPath {
		return fmt.Errorf("link to %.200q: %w", e.Link, syscall.ENAMETOOLONG)
	}
	b.replace(parent, name, b.inodes.Add(Inode{Kind: Hardlink, Extra: &Extra{Link: b.texts.keep(link)}}))
	return nil
}

// find returns the node of that name in the directory parent.
func (b *builder) find(parent uint32, name string) (n uint32, ok bool) {
	n = b.byName.find(&b.nodes, parent, name)
	return n, n > 0
}

// make adds a node, in the place of what has its name.
func (b *builder) make(parent uint32, name string, inode uint32) uint32 {
	n := b.nodes.add(built{name: b.texts.keep(name), parent: parent, inode: inode})
	b.byName.set(&b.nodes, n)
	return n
}

// replace puts a node in the place of what has its name.
func (b *builder) replace(parent uint32, name string, inode uint32) {
	if n, ok := b.find(parent, name); ok {
		if k := b.inode(n).Kind; k == Dir || k == Symlink {
			b.dir = "" // its way may have led there
		}
		b.nodes.at(n).die()
	}
	b.make(parent, name, inode)
}

// enter returns the directory of that name. Where there is none one is made. In the
// place of something else of this layer it has what an implied one has, as its own.
func (b *builder) enter(parent uint32, name string) uint32 {
	n, ok := b.find(parent, name)
	if ok && b.inode(n).Kind == Dir {
		return n
	}
	dir := impliedDir()
	if ok { // what lower layers have there is as gone as what this layer had
		dir.Implied, dir.Opaque = false, true
		b.nodes.at(n).die()
		b.dir = ""
	}
	return b.make(parent, name, b.inodes.Add(dir))
}

// errAbsent is that this layer has no such directory.
var errAbsent = errors.New("no such directory")

// parent is walk that makes, and remembers the last answer: a tar has its
// entries in the order of a walk.
func (b *builder) parent(name string) (uint32, error) {
	if b.dir == name {
		return b.dirNode, nil
	}
	n, err := b.walk(name, false)
	if err == nil {
		b.dir, b.dirNode = strings.Clone(name), n
	}
	return n, err
}

// A stop on the way to a name is a directory, or where the layer has none.
type stop struct {
	name  string
	node  uint32
	there bool
}

// end returns the directory that a way leads to, and whether it is there.
func end(way []stop) (n uint32, there bool) {
	if len(way) == 0 {
		return 0, true
	}
	s := way[len(way)-1]
	return s.node, s.there
}

// resolve finds the way to the directory of that name, in which no link is left.
func (b *builder) resolve(name string) ([]stop, error) {
	var way []stop
	rest, links := name, 0
	for rest != "" {
		if b.steps--; b.steps < 0 {
			return nil, &refusal{"the ways to the layer's entries are too long, or lead by too many links", syscall.EFBIG}
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(len(way)-1, 0)]
			continue
		}
		here, there := end(way)
		n, ok := b.find(here, part)
		ok = ok && there
		if ok && b.inode(n).Kind == Symlink {
			if links++; links > maxLinks {
				return nil, syscall.ELOOP
			}
			target := b.inode(n).Link()
			if strings.HasPrefix(target, "/") {
				way = nil
			}
			rest = target + "/" + rest
			b.steps -= int64(len(rest) / byteSteps)
			continue
		}
		if len(way) >= MaxDepth-1 { // and then the name itself
			return nil, syscall.ENAMETOOLONG
		}
		way = append(way, stop{part, n, ok && b.inode(n).Kind == Dir})
	}
	return way, nil
}

// walk returns the directory of the clean name. Where there is none it makes one,
// in the place of what is there; or with ghosts, for what hides something below
// it, one that is there for that alone: then where something else is, the error is
// errAbsent.
func (b *builder) walk(name string, ghosts bool) (uint32, error) {
	way, err := b.resolve(name)
	if err != nil {
		return 0, err
	}
	n := uint32(0)
	for _, s := range way {
		if !s.there {
			old, is := b.find(n, s.name)
			if is && b.inode(old).Kind == Hardlink { // which may be to a link
				b.linked = append(b.linked, b.inode(old).Link())
			}
			if is && ghosts {
				return 0, errAbsent
			}
			s.node = b.enter(n, s.name)
			b.inode(s.node).Ghost = ghosts
			if b.inode(s.node).Implied {
				b.led = append(b.led, s.node)
			}
		} else if !ghosts {
			b.inode(s.node).Ghost = false
		}
		n = s.node
	}
	return n, nil
}
