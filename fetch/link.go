package fetch

import "strings"

// nextLink returns the target of the first link whose relation is next in the
// values of Link headers (RFC 8288, 3 and B.2). What follows something that is
// no link, in the same value, is left out.
func nextLink(values []string) (target string, ok bool) {
	for _, v := range values {
		for v != "" {
			v = strings.TrimLeft(v, " \t,")
			rest, isLink := strings.CutPrefix(v, "<")
			target, params, closed := strings.Cut(rest, ">")
			if !isLink || !closed {
				break
			}
			var rel string
			rel, v = linkRelation(params)
			for r := range strings.FieldsSeq(rel) {
				if strings.EqualFold(r, "next") {
					return target, true
				}
			}
		}
	}
	return "", false
}

// linkRelation reads a link's parameters and returns the first rel among them,
// and what stands behind the link.
func linkRelation(s string) (rel, rest string) {
	found := false
	for {
		s = strings.TrimLeft(s, " \t")
		params, ok := strings.CutPrefix(s, ";")
		if !ok {
			return rel, s
		}
		var name, value string
		name, value, s = linkParam(params)
		if strings.EqualFold(name, "rel") && !found {
			rel, found = value, true
		}
	}
}

// linkParam reads NAME, NAME=VALUE or NAME="VALUE".
func linkParam(s string) (name, value, rest string) {
	i := strings.IndexAny(s, "=;,")
	if i < 0 {
		return strings.Trim(s, " \t"), "", ""
	}
	name, rest = strings.Trim(s[:i], " \t"), s[i:]
	if rest[0] != '=' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, rest = unquoteLink(quoted)
		return name, value, rest
	}
	if i = strings.IndexAny(rest, ";,"); i < 0 {
		i = len(rest)
	}
	return name, strings.Trim(rest[:i], " \t"), rest[i:]
}

// unquoteLink reads up to the quote that ends s.
func unquoteLink(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
