package fs

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A linkTree is a directory of links and of further such directories, or one
// link. The zero value is an empty directory.
type linkTree struct {
	below map[string]*linkTree
	to    digest.Digest // what a link leads to; "" for a directory
}

func (t *linkTree) empty() bool { return len(t.below) == 0 }

// find returns what has that path below t, nil if there is nothing.
func (t *linkTree) find(path string) *linkTree {
	for path != "" && t != nil {
		name, rest, _ := strings.Cut(path, "/")
		t, path = t.below[name], rest
	}
	return t
}

// add puts a link in, and the directories on the way to it. It is false, and
// nothing is changed, where another has that path, or a link is on the way.
func (t *linkTree) add(path string, to digest.Digest) bool {
	for {
		name, rest, deeper := strings.Cut(path, "/")
		next := t.below[name]
		switch {
		case next == nil && deeper:
			next = t.put(name, &linkTree{})
		case next == nil:
			next = t.put(name, &linkTree{to: to})
		}
		if !deeper || next.to != "" {
			return !deeper && next.to == to
		}
		t, path = next, rest
	}
}

func (t *linkTree) put(name string, next *linkTree) *linkTree {
	if t.below == nil {
		t.below = make(map[string]*linkTree)
	}
	t.below[name] = next
	return next
}

func (t *linkTree) names() []string { return slices.Sorted(maps.Keys(t.below)) }
