package locator

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits of the grammar, in bytes. A path's is that of docker's
// references; a tag's stands in the distribution specification.
const (
	maxPath = 255
	maxTag  = 128
)

// CheckPath says whether path is a whole repository path: components joined by
// slashes, at most 255 bytes together. The error is an *Error.
func CheckPath(path string) error {
	return pathFault(path).in(path, "path")
}

// CheckTag says whether tag is a tag: a letter, a digit or an underscore, then
// up to 127 of these, dots and hyphens. The error is an *Error.
func CheckTag(tag string) error {
	return tagFault(tag).in(tag, "tag")
}

func pathFault(path string) fault {
	if len(path) > maxPath {
		return fault("is " + strconv.Itoa(len(path)) + " bytes long, at most 255 are allowed")
	}
	if path == "" {
		return "is empty"
	}
	for elem := range strings.SplitSeq(path, "/") {
		if f := componentFault(elem); f != "" {
			if elem == path {
				return f
			}
			return fault("component "+quote(elem)+" ") + f
		}
	}
	return ""
}

// componentFault checks [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func componentFault(elem string) fault {
	if elem == "" {
		return "is empty"
	}
	sep := 0 // where the separators that end at i begin
	for i := range len(elem) {
		c := elem[i]
		switch {
		case isLower(c) || isDigit(c):
			if sep < i {
				if f := separatorFault(elem[sep:i], sep == 0); f != "" {
					return f
				}
			}
			sep = i + 1
		case c == '.' || c == '_' || c == '-':
		case isUpper(c):
			return fault("has the upper-case letter " + quoteByte(elem, i) + ", only lower case is allowed")
		default:
			return fault("has " + quoteByte(elem, i) + ", only a-z, 0-9 and . _ - between them are allowed")
		}
	}
	if sep != len(elem) {
		return fault("ends in " + quote(elem[sep:]) + ", it must end in a letter or a digit")
	}
	return ""
}

// separatorFault checks the separators s, which a letter or a digit follows.
func separatorFault(s string, first bool) fault {
	switch {
	case first:
		return fault("begins with " + quote(s) + ", it must begin with a letter or a digit")
	case s == ".", s == "_", s == "__", strings.Trim(s, "-") == "":
		return ""
	default:
		return fault("has " + quote(s) + " between letters or digits, only . or _ or __ or hyphens may stand there")
	}
}

// tagFault checks [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func tagFault(tag string) fault {
	if tag == "" {
		return "is empty"
	}
	if len(tag) > maxTag {
		return fault("is " + strconv.Itoa(len(tag)) + " bytes long, at most 128 are allowed")
	}
	for i := range len(tag) {
		switch c := tag[i]; {
		case isLower(c), isUpper(c), isDigit(c), c == '_':
		case c == '.' || c == '-':
			if i == 0 {
				return fault("begins with " + quoteByte(tag, 0) + ", it must begin with a letter, a digit or _")
			}
		default:
			return fault("has " + quoteByte(tag, i) + ", only letters, digits and _ . - are allowed")
		}
	}
	return ""
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// quoteByte returns what stands at s[i] in quotes: the rune that begins there,
// or the byte where none does.
func quoteByte(s string, i int) string {
	_, n := utf8.DecodeRuneInString(s[i:])
	return quote(s[i : i+n])
}
