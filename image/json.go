package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// An Error says why bytes from outside are no document that can be used.
// It is syscall.EIO, a broken answer, to errors.Is.
type Error struct {
	Where string // "layers[3].digest"; "" is the document as a whole
	Why   string
}

// Error returns one line of printable ASCII.
func (e *Error) Error() string {
	if e.Where == "" {
		return "manifest: " + e.Why
	}
	return "manifest: " + e.Where + ": " + e.Why
}

// Is makes every Error syscall.EIO.
func (e *Error) Is(target error) bool {
	return target == syscall.EIO
}

// A value is a piece of a valid JSON document and where it stands there.
type value struct {
	where string
	raw   json.RawMessage
	left  *int // how many more entries the document may have
}

func (v value) errorf(format string, args ...any) error {
	return &Error{Where: v.where, Why: fmt.Sprintf(format, args...)}
}

// key returns where the value of key stands.
func (v value) key(key string) string {
	if v.where == "" {
		return key
	}
	return v.where + "." + key
}

func (v value) isNull() bool {
	return string(bytes.TrimSpace(v.raw)) == "null"
}

// fields calls f for each of an object's fields. It refuses a key that is
// there twice. Of known keys it refuses those spelled in another case, too:
// encoding/json, and so most readers of manifests, take them for the same key,
// others don't.
func (v value) fields(known []string, f func(key string, v value) error) error {
	dec := json.NewDecoder(bytes.NewReader(v.raw))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return v.errorf("is no object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		key, isKey := tok.(string)
		if err != nil || !isKey {
			return v.errorf("is no object")
		}
		if seen[key] {
			return v.errorf("has %s twice", quote(key))
		}
		seen[key] = true
		for _, k := range known {
			if k != key && strings.EqualFold(k, key) {
				return v.errorf("has %s, which is spelled %q", quote(key), k)
			}
		}
		field := value{left: v.left}
		if err := dec.Decode(&field.raw); err != nil {
			return v.errorf("is no object")
		}
		if err := v.count(); err != nil {
			return err
		}
		field.where = v.key(plain(key))
		if err := f(key, field); err != nil {
			return err
		}
	}
	return nil
}

// elements calls f for each element of an array, of which it takes at most limit.
func (v value) elements(limit int, f func(v value) error) error {
	dec := json.NewDecoder(bytes.NewReader(v.raw))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('[') {
		return v.errorf("is no array")
	}
	for i := 0; dec.More(); i++ {
		if i >= limit {
			return v.errorf("has more than %d elements", limit)
		}
		elem := value{where: v.where + "[" + strconv.Itoa(i) + "]", left: v.left}
		if err := dec.Decode(&elem.raw); err != nil {
			return v.errorf("is no array")
		}
		if err := f(elem); err != nil {
			return err
		}
	}
	return nil
}

// str reads a string, which null is not.
func (v value) str(into *string) error {
	if v.isNull() {
		return v.errorf("is null, not a string")
	}
	if err := json.Unmarshal(v.raw, into); err != nil {
		return v.errorf("is no string")
	}
	return nil
}

// printable reads a string of so many bytes of printable ASCII at most. Of another
// one it says what it is not.
func (v value) printable(into *string, most int, not string) error {
	if err := v.str(into); err != nil {
		return err
	}
	if len(*into) > most {
		return v.errorf("is %d bytes long, at most %d are allowed", len(*into), most)
	}
	for i := range len(*into) {
		if c := (*into)[i]; c < ' ' || c > '~' {
			return v.errorf("%s %s", quote(*into), not)
		}
	}
	return nil
}

// list reads an array of strings, each by read.
func (v value) list(limit int, read func(value, *string) error, into *[]string) error {
	return v.elements(limit, func(v value) error {
		var s string
		if err := read(v, &s); err != nil {
			return err
		}
		*into = append(*into, s)
		return v.count()
	})
}

// count counts one more entry of the document.
func (v value) count() error {
	if *v.left--; *v.left < 0 {
		return v.errorf("is too large: the document has more than %d entries", maxEntries)
	}
	return nil
}

// size reads a size in bytes.
func (v value) size(into *int64) error {
	var n json.Number
	if err := json.Unmarshal(v.raw, &n); err != nil || v.raw[0] == '"' || v.isNull() {
		return v.errorf("is no number")
	}
	size, err := strconv.ParseInt(n.String(), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return v.errorf("%s is out of range", quote(n.String()))
	case err != nil:
		return v.errorf("%s is no whole number", quote(n.String()))
	case size < 0:
		return v.errorf("%d is negative", size)
	}
	*into = size
	return nil
}

// optional reads v into into. null is as good as absent: that is how many
// encoders write an empty field.
func optional[T any](v value, read func(*T) error, into *T) error {
	if v.isNull() {
		return nil
	}
	return read(into)
}

// quote returns s in quotes, escaped and bounded.
func quote(s string) string {
	const limit = 80
	if len(s) <= limit {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:limit]) + "... (" + strconv.Itoa(len(s)) + " bytes)"
}

// plain returns key as it is where it can stand in an error so, else quoted.
func plain(key string) string {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' || c == '"' || i == 80 {
			return quote(key)
		}
	}
	return key
}
