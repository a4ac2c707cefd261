package fetch

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"distfs/locator"
)

// ListTags reads the first page from the first source that lists its tags, and
// the further ones from the same: each has an order of its own. A page's name
// begins with the source's number.
func (m *mirrors) ListTags(ctx context.Context, loc locator.Locator, page string, limit int64, yield func(string) error) (string, int64, error) {
	if page != "" {
		i, page, err := m.pageOf(page)
		if err != nil {
			return "", 0, err
		}
		return m.listTags(ctx, i, loc, page, limit, yield)
	}
	var read int64
	var final error // once names were told, another source's would not go on from there
	next, err := askEach(ctx, m, query{object: loc.Path + " tags", need: canResolve}, func(ctx context.Context, s *source, w *vigil) (string, error) {
		defer w.end()
		told := false
		next, n, err := m.listTags(ctx, m.number(s), loc, "", limit, func(name string) error {
			told = true
			w.rest()
			return yield(name)
		})
		read += n
		if err == nil || !told {
			return next, err
		}
		if final = err; !errors.Is(err, errEnough) {
			final = broken("%s: its list of tags broke off: %v", s.name, err)
		}
		return "", nil
	})
	if final != nil {
		err = final
	}
	return next, read, err
}

func (m *mirrors) listTags(ctx context.Context, i int, loc locator.Locator, page string, limit int64, yield func(string) error) (string, int64, error) {
	s := m.list[i]
	next, n, err := s.ListTags(ctx, s.at(loc), page, limit, yield)
	if next != "" {
		next = strconv.Itoa(i) + " " + next
	}
	return next, n, err
}

// pageOf takes a page's name apart.
func (m *mirrors) pageOf(name string) (i int, page string, err error) {
	number, page, _ := strings.Cut(name, " ")
	i, err = strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(m.list) {
		return 0, "", broken("%s: page %q of a list", m.host, oneLine(number))
	}
	return i, page, nil
}

func (m *mirrors) number(s *source) int {
	for i, other := range m.list {
		if other == s {
			return i
		}
	}
	return -1
}
