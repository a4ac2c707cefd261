package layer

import (
	"fmt"
	"path"
	"strings"
	"syscall"
)

// MaxDepth is how many components an entry's name may have. Whoever makes a
// tree of entries may hold a descriptor for each.
const MaxDepth = 512

// Linux's own limits, in bytes.
const (
	maxName = 255
	maxPath = 4095
)

const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// cleanName returns the name as an Entry has it. A name that would climb above
// the root ends there, as umoci has it. The error is syscall.ENAMETOOLONG, or
// syscall.EINVAL for a NUL.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("a name of %d bytes: %w", len(name), syscall.ENAMETOOLONG)
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("a NUL in its name: %w", syscall.EINVAL)
	}
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return ".", nil
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		depth++
		if len(part) > maxName {
			return "", fmt.Errorf("a component of %d bytes: %w", len(part), syscall.ENAMETOOLONG)
		}
	}
	if depth > MaxDepth {
		return "", fmt.Errorf("a name of %d components: %w", depth, syscall.ENAMETOOLONG)
	}
	return name, nil
}

// whiteout tells what the clean name says by a prefix of its last component:
// the kind is 0 for an ordinary name. The error is syscall.EINVAL for what
// hides nothing, its directory or the one above, and for an entry below a
// whiteout.
func whiteout(name string) (Kind, string, error) {
	dir, base := path.Split(name)
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return 0, "", fmt.Errorf("a name below a whiteout: %w", syscall.EINVAL)
	}
	hidden, is := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !is:
		return 0, name, nil
	case base == opaqueName:
		return Opaque, path.Clean(dir), nil
	case hidden == "" || hidden == "." || hidden == "..":
		return 0, "", fmt.Errorf("a whiteout of %q: %w", hidden, syscall.EINVAL)
	}
	return Whiteout, dir + hidden, nil
}

// isMeta says whether the clean name is no file of the image but aufs's own, which
// docker's oldest layers have: all below a directory of the root that bears aufs's
// prefix, and elsewhere what bears it itself. Runtimes leave out the same, and show
// what lies below a directory of that name elsewhere.
func isMeta(name string) bool {
	root, _, _ := strings.Cut(name, "/")
	for _, part := range []string{root, path.Base(name)} {
		if strings.HasPrefix(part, aufsPrefix) && part != opaqueName {
			return true
		}
	}
	return false
}
