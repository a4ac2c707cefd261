package image

import (
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	maxName       = 255  // bytes of a file's name
	maxTitle      = 4096 // bytes of a path
	maxTitleDepth = 255  // names in one: links that lead out of it are paths, too
)

// CheckTitle returns nil for the title of an artifact's layer that is the path of
// a file below a directory: names with a slash between them, none of which is
// empty, `.`, `..`, longer than 255 bytes or has a NUL, and of which the first is
// no digest. It has at most 4096 bytes and 255 names. The error is an *Error.
func CheckTitle(title string) error {
	fault := titleFault(title)
	if fault == "" {
		return nil
	}
	return &Error{Where: "title " + quote(title), Why: fault}
}

func titleFault(title string) string {
	switch {
	case title == "":
		return "is empty"
	case len(title) > maxTitle:
		return "has more than " + strconv.Itoa(maxTitle) + " bytes"
	case title[0] == '/':
		return "is absolute"
	case strings.Count(title, "/") >= maxTitleDepth:
		return "is more than " + strconv.Itoa(maxTitleDepth) + " names deep"
	}
	first, _, _ := strings.Cut(title, "/")
	if _, err := digest.Parse(first); err == nil {
		return "is that of a file without a title: a digest"
	}
	for name := range strings.SplitSeq(title, "/") {
		if fault := nameFault(name); fault != "" {
			return fault
		}
	}
	return ""
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "has an empty name in it"
	case name == "." || name == "..":
		return "has " + name + " in it"
	case len(name) > maxName:
		return "has a name of more than " + strconv.Itoa(maxName) + " bytes in it"
	case strings.Contains(name, "\x00"):
		return "has a NUL in it"
	}
	return ""
}
