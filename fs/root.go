package fs

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"distfs/locator"
)

// The root has the hosts.
type root struct{ s *server }

var (
	_ = directory((*root)(nil))
	_ = watchedDir((*root)(nil))
)

func (*root) identity() identity { return identity{ino: fuse.FUSE_ROOT_ID} }

func (*root) attributes() attributes { return directoryAttributes(forever) }

func (*root) String() string { return "" }

func (*root) watchedPrefix() string { return "" }

func directoryAttributes(entry time.Duration) attributes {
	return attributes{mode: syscall.S_IFDIR | 0o555, entry: entry, valid: forever}
}

// lookup finds any host, by grammar; offline those of which something is held.
// Docker's other names are links to the one that is listed.
func (r *root) lookup(_ context.Context, name string) (node, error) {
	host, ok := r.s.hosts.ParseHost(name)
	if !ok {
		return nil, errNever
	}
	dir, err := r.s.enterHost(name, host)
	if err != nil {
		return nil, err
	}
	if to, ok := locator.Alias(host); ok {
		return newPlainLink(name, to), nil
	}
	return dir, nil
}

// list tells the hosts that are configured or of which something is held.
func (r *root) list(context.Context) ([]entry, error) {
	names, err := r.s.src.Repos("")
	if err != nil {
		return nil, err
	}
	if !r.s.opts.Offline {
		names = slices.AppendSeq(names, maps.Keys(r.s.hosts))
	}
	slices.Sort(names)
	var entries []entry
	for _, name := range slices.Compact(names) {
		if r.s.hosts.IsHost(name) {
			entries = append(entries, directoryEntry(name, identifyDirectory(name)))
		}
	}
	return entries, nil
}

func directoryEntry(name string, id identity) entry {
	return entry{name: name, mode: syscall.S_IFDIR, ino: id.ino}
}

// identifyDirectory is the identity of a directory: the path as it is spelled
// makes it, for two paths to one directory inode are one dentry to the kernel,
// and the working directories of others would move.
func identifyDirectory(path string) identity { return identify("directory", path) }
