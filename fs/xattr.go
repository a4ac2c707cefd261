package fs

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/opencontainers/go-digest"

	"distfs/locator"
)

// GetXAttr answers for the attributes of objects and images. They are got by
// name: were they listed, cp -a and rsync -X would carry them off.
func (s *server) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	n, ok := s.table.node(header.NodeId).(attributed)
	if !ok {
		return 0, noXattr(attr)
	}
	value, err := n.xattr(attr)
	if err != nil {
		return 0, noXattr(attr)
	}
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// noXattr is the answer where a file has no such attribute. ls -l asks for a label and
// an access list of each file, each time a request, unless it hears that there is no
// such thing on the device: then it asks no more, and overlooks the access list of
// a later file, should an image have one.
func noXattr(attr string) fuse.Status {
	if attr == "security.selinux" || strings.HasPrefix(attr, "system.posix_acl_") {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return fuse.ENODATA
}

// ListXAttr tells the names of those that an image gives its files.
func (s *server) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, ok := s.table.node(header.NodeId).(listed)
	if !ok {
		return 0, fuse.OK
	}
	var names []byte
	for _, name := range n.xattrs() {
		names = append(append(names, name...), 0)
	}
	if len(dest) < len(names) {
		return uint32(len(names)), fuse.ERANGE
	}
	return uint32(copy(dest, names)), fuse.OK
}

// xattr is the attribute of an object. It tells what is known and asks nobody.
func (s *server) xattr(loc locator.Locator, dgst digest.Digest, name string) (string, error) {
	switch name {
	case "user.distfs.digest":
		return string(dgst), nil
	case "user.distfs.locator":
		return loc.String(), nil
	case "user.distfs.mediatype":
		if desc := s.hint(loc, dgst); desc.MediaType != "" {
			return desc.MediaType, nil
		}
		return "", syscall.ENODATA
	}
	n, committed := s.src.Local(loc, dgst)
	switch name {
	case "user.distfs.state":
		return state(n, committed), nil
	case "user.distfs.local":
		return strconv.FormatInt(n, 10), nil
	case "user.distfs.committed":
		if !committed.IsZero() {
			return committed.UTC().Format(time.RFC3339), nil
		}
	}
	return "", syscall.ENODATA
}

func state(n int64, committed time.Time) string {
	switch {
	case !committed.IsZero():
		return "complete"
	case n > 0:
		return "partial"
	}
	return "absent"
}

// here says whether a byte of the object is.
func (s *server) here(loc locator.Locator, dgst digest.Digest) bool {
	n, committed := s.src.Local(loc, dgst)
	return n > 0 || !committed.IsZero()
}
