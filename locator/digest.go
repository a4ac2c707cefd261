package locator

import (
	_ "crypto/sha256" // go-digest knows only what is linked in
	_ "crypto/sha512" // sha384 too
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ParseDigest reads ALGORITHM:HEX. The algorithms are sha256, sha384 and
// sha512, the digits lower-case and as many as the algorithm has, so that a
// digest that was accepted has one spelling. The error is an *Error.
func ParseDigest(s string) (digest.Digest, error) {
	dgst, f := scanDigest(s)
	return dgst, f.in(s, "digest")
}

// ParseObject reads what names an object in a repository: TAG, TAG@DIGEST,
// @DIGEST or DIGEST. At least one of tag and dgst is set if err is nil.
// The error is an *Error.
func ParseObject(s string) (tag string, dgst digest.Digest, err error) {
	tag, d, found := strings.Cut(s, "@")
	switch {
	case s == "":
		return "", "", fault("is empty, give a tag or a digest").in(s, "object")
	case !found && strings.Contains(s, ":"):
		tag, d, found = "", s, true
	}
	if tag != "" {
		if f := tagFault(tag); f != "" {
			return "", "", f.in(s, "tag")
		}
	}
	if !found {
		return tag, "", nil
	}
	dgst, f := scanDigest(d)
	if f != "" {
		return "", "", f.in(s, "digest")
	}
	return tag, dgst, nil
}

// hexLen returns how many hex digits a digest of the algorithm has, 0 for an
// algorithm that is not supported.
func hexLen(algorithm string) int {
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		return 64
	case digest.SHA384:
		return 96
	case digest.SHA512:
		return 128
	}
	return 0
}

func scanDigest(s string) (digest.Digest, fault) {
	if s == "" {
		return "", "is empty"
	}
	algorithm, hex, found := strings.Cut(s, ":")
	if !found {
		return "", "has no colon, it is ALGORITHM:HEX"
	}
	want := hexLen(algorithm)
	if want == 0 {
		return "", fault("algorithm " + quote(algorithm) + " is not supported, sha256, sha384 and sha512 are")
	}
	if len(hex) != want {
		return "", fault("has " + strconv.Itoa(len(hex)) + " digits, " + algorithm + " has " + strconv.Itoa(want))
	}
	for i := range len(hex) {
		switch c := hex[i]; {
		case isDigit(c), 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			return "", fault("has the upper-case digit " + quoteByte(hex, i) + ", only lower case is allowed")
		default:
			return "", fault("has " + quoteByte(hex, i) + ", only 0-9 and a-f are allowed")
		}
	}
	return digest.Digest(s), ""
}
