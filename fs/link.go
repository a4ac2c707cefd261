package fs

import (
	"context"
	"syscall"
	"time"
)

// A plainLink is a link that never changes.
type plainLink struct {
	id     identity
	path   string
	target string
	entry  time.Duration // for which the name is that of this link
}

var _ = link((*plainLink)(nil))

func newPlainLink(path, target string) *plainLink {
	return &plainLink{id: identifyLink(path), path: path, target: target, entry: forever}
}

func identifyLink(path string) identity { return identify("link", path) }

func (l *plainLink) identity() identity { return l.id }

func (l *plainLink) String() string { return l.path }

func (l *plainLink) attributes() attributes { return linkAttributes(l.target, l.entry) }

func (l *plainLink) readlink(context.Context) (string, error) { return l.target, nil }

// linkAttributes are those of a link whose target is known.
func linkAttributes(target string, entry time.Duration) attributes {
	return attributes{mode: syscall.S_IFLNK | 0o777, size: int64(len(target)), entry: entry, valid: forever}
}
