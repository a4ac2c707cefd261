package fs

import (
	"strconv"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/layer"
)

// ourPrefix is that of the attributes that say where a file comes from. They are
// got by name, and never listed: cp -a and rsync -X would carry them off.
const ourPrefix = "user.distfs."

// xattr is an extended attribute: one that the image has, or what is known of where
// the file comes from.
func (n *treeNode) xattr(name string) (string, error) {
	if rest, ours := strings.CutPrefix(name, ourPrefix); ours {
		return n.origin(rest)
	}
	if n.file.Opaque() && name == n.t.s.opaqueName() {
		return "y", nil
	}
	for _, x := range n.file.Inode().Xattrs() {
		if x.Name == name && !n.hides(name) {
			return x.Value, nil
		}
	}
	return "", syscall.ENODATA
}

// maxXattr is how long an attribute may be, and the list of all names, in bytes
// (XATTR_SIZE_MAX, XATTR_LIST_MAX). No file on a disk has a longer one, and for one
// that has the kernel fails what would have copied all the others.
const maxXattr = 64 << 10

// hides says whether an image has no say in it: the attribute would be taken for ours,
// or for an order to the overlayfs whose lower directory this is.
func (n *treeNode) hides(name string) bool {
	return strings.HasPrefix(name, ourPrefix) ||
		n.t.lower && (strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay."))
}

// xattrs are the names of those that the image has.
func (n *treeNode) xattrs() []string {
	var names []string
	if n.file.Opaque() {
		names = append(names, n.t.s.opaqueName())
	}
	size := len(n.t.s.opaqueName()) + 1
	for _, x := range n.file.Inode().Xattrs() {
		if n.hides(x.Name) || len(x.Value) > maxXattr {
			continue
		}
		if size += len(x.Name) + 1; size > maxXattr {
			break
		}
		names = append(names, x.Name)
	}
	return names
}

// opaqueName is the attribute by which overlayfs tells an opaque directory.
func (s *server) opaqueName() string {
	if s.opts.UserOverlay {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// origin tells where a file comes from.
func (n *treeNode) origin(name string) (string, error) {
	l := n.t.layers[n.file.Layer]
	ino := n.file.Inode()
	switch name {
	case "layer":
		return string(l.desc.Digest), nil
	case "locator":
		return n.t.loc.String(), nil
	case "digest":
		if ino.Kind == layer.File && ino.Digest != [32]byte{} {
			return string(contentDigest(ino)), nil
		}
	case "state":
		if here, ok := n.local(); ok {
			return treeState(here, ino.Size), nil
		}
	case "local":
		if here, ok := n.local(); ok {
			return strconv.FormatInt(here, 10), nil
		}
	case "view":
		if ix := l.held(); ix != nil && ix.View != layer.ViewTar {
			return "toc", nil
		}
		return "tar", nil
	}
	return "", syscall.ENODATA
}

// local tells how many bytes of a file's content can be read without asking anybody,
// where that is known: a layer that is here in part may have them or not.
func (n *treeNode) local() (here int64, known bool) {
	ino := n.file.Inode()
	if ino.Kind != layer.File {
		return 0, false
	}
	l := n.t.layers[n.file.Layer]
	ofLayer, committed := n.t.s.src.Local(l.loc, l.desc.Digest)
	if !committed.IsZero() || ino.Size == 0 {
		return ino.Size, true
	}
	if ino.Digest != ([32]byte{}) {
		here = n.t.s.src.LocalFile(l.loc, l.desc.Digest, ocispec.Descriptor{Digest: contentDigest(ino), Size: ino.Size})
	}
	return here, here > 0 || ofLayer == 0
}

func treeState(here, size int64) string {
	switch here {
	case size:
		return "complete"
	case 0:
		return "absent"
	}
	return "partial"
}
