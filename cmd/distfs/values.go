package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

var (
	_ = pflag.Value((*choice)(nil))
	_ = pflag.Value((*duration)(nil))
	_ = pflag.Value((*fillBelow)(nil))
	_ = pflag.Value((*size)(nil))
	_ = pflag.Value((*knownSize)(nil))
	_ = pflag.Value((*path)(nil))
)

// A choice is a flag that takes one of several words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }
func (c *choice) list() string   { return strings.Join(c.of, ", ") }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("it is one of %s", c.list())
	}
	c.value = s
	return nil
}

// A duration is a flag that takes a time.Duration of zero or more.
type duration struct {
	d        time.Duration
	positive bool // zero is refused
}

func (d *duration) String() string {
	if d.d == 0 && d.positive { // it was not given
		return ""
	}
	return d.d.String()
}

func (d *duration) Type() string { return "D" }

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errors.New("no duration such as 90s or 1m30s")
	case v < 0 || v == 0 && d.positive:
		return errors.New("it must be more than 0")
	}
	d.d = v
	return nil
}

// fillBelow is the flag of that name: a size, all or 0.
type fillBelow int64

func (f *fillBelow) Type() string { return "SIZE|all|0" }

func (f *fillBelow) String() string {
	if *f == math.MaxInt64 {
		return "all"
	}
	return formatSize(int64(*f))
}

func (f *fillBelow) Set(s string) error {
	if s == "all" {
		*f = math.MaxInt64
		return nil
	}
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	*f = fillBelow(n)
	return nil
}

// size is a flag that takes a number of bytes.
type size int64

func (n *size) Type() string { return "SIZE" }

func (n *size) String() string { return formatSize(int64(*n)) }

func (n *size) Set(s string) error {
	v, err := parseSize(s)
	if err == nil {
		*n = size(v)
	}
	return err
}

// knownSize is a flag that takes a number of bytes, which need not be given.
type knownSize struct {
	n     int64
	known bool
}

func (n *knownSize) Type() string { return "SIZE" }

func (n *knownSize) String() string {
	if !n.known {
		return ""
	}
	return formatSize(n.n)
}

func (n *knownSize) Set(s string) error {
	v, err := parseSize(s)
	if err == nil {
		n.n, n.known = v, true
	}
	return err
}

// bytes is -1 where it was not given.
func (n *knownSize) bytes() int64 {
	if !n.known {
		return -1
	}
	return n.n
}

// parseSize reads a number of bytes, zero or more: digits and a unit. K and
// KiB are 1024 bytes, kB and KB are 1000, and so on up to P.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTPkiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' {
		return 0, errors.New("no size such as 65536, 64KiB or 64M")
	}
	factor, ok := unit(s[len(digits):])
	if !ok {
		return 0, fmt.Errorf("no unit %q: there is K, M, G, T, P, each with iB (1024) or B (1000)", s[len(digits):])
	}
	if n > math.MaxInt64/factor {
		return 0, errors.New("too large")
	}
	return n * factor, nil
}

func unit(s string) (int64, bool) {
	if s == "" || s == "B" {
		return 1, true
	}
	power := strings.IndexByte("KMGTP", s[0]) + 1
	base := int64(1024)
	switch {
	case s == "kB":
		return 1000, true
	case power == 0:
		return 0, false
	case s[1:] == "B":
		base = 1000
	case s[1:] != "" && s[1:] != "iB":
		return 0, false
	}
	factor := int64(1)
	for range power {
		factor *= base
	}
	return factor, true
}

// formatSize is the shortest that parseSize reads as n.
func formatSize(n int64) string {
	for i, u := range []string{"PiB", "TiB", "GiB", "MiB", "KiB"} {
		if f := int64(1) << (10 * (5 - i)); n != 0 && n%f == 0 {
			return strconv.FormatInt(n/f, 10) + u
		}
	}
	return strconv.FormatInt(n, 10)
}

// bytes is f as fetch.Options.FillBelow has it: negative for never.
func (f fillBelow) bytes() int64 {
	if f == 0 {
		return -1
	}
	return int64(f)
}

// A path is a flag that takes the name of a file. In a configuration file it is
// relative to that file's folder.
type path string

func (p *path) String() string { return string(*p) }
func (p *path) Type() string   { return "FILE" }

func (p *path) Set(s string) error {
	*p = path(s)
	return nil
}
