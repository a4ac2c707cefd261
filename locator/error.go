package locator

import (
	iofs "io/fs"
	"strconv"
)

// maxQuoted is how many bytes of an input an error repeats.
const maxQuoted = 80

// An Error says what part of an input is outside the grammar, and why.
// It is fs.ErrInvalid to errors.Is.
type Error struct {
	Input string // the whole input, as it came
	Part  string // "host", "configured host", "path", "tag", "digest", "reference", "object", "name"
	Why   string // without the input, or with pieces of it quoted and bounded
}

// Error returns one line of printable ASCII, whatever the input was.
func (e *Error) Error() string {
	return quote(e.Input) + ": " + e.Part + ": " + e.Why
}

// Is makes every Error fs.ErrInvalid.
func (e *Error) Is(target error) bool {
	return target == iofs.ErrInvalid
}

// quote returns s in quotes, escaped and cut to maxQuoted bytes of s.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:maxQuoted]) + "... (" + strconv.Itoa(len(s)) + " bytes)"
}

// A fault is why a part is outside the grammar; "" is that it is not.
type fault string

// in returns f as the error of input's part, nil where there is no fault.
func (f fault) in(input, part string) error {
	if f == "" {
		return nil
	}
	return &Error{Input: input, Part: part, Why: string(f)}
}
