package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"distfs/locator"
)

// tagsPerPage is how many tags a registry is asked for at a time.
const tagsPerPage = 1000

// ListTags reads a page of /v2/<name>/tags/list (distribution-spec v1.1,
// "Listing Tags"). A page's name is the path and query that the page before
// gave in its Link header, on the same origin.
func (r *registry) ListTags(ctx context.Context, loc locator.Locator, page string, limit int64, yield func(string) error) (next string, n int64, err error) {
	resp, base, err := r.getTags(ctx, loc, page, tagsPerPage)
	if status, ok := errors.AsType[*StatusError](err); ok && page == "" && status.Code == http.StatusBadRequest {
		resp, base, err = r.getTags(ctx, loc, page, 0) // it does not take that many
	}
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	next, err = nextPage(base, resp.Header["Link"])
	if err != nil {
		return "", 0, err
	}
	in := &pageReader{body: resp.Body, limit: limit}
	err = in.readTags(yield)
	return next, in.n, err
}

// getTags asks for a page, of perPage tags unless that is 0 or the page is
// named. base is what was asked.
func (r *registry) getTags(ctx context.Context, loc locator.Locator, page string, perPage int) (resp *http.Response, base *url.URL, err error) {
	req, err := r.request(ctx, http.MethodGet, locator.Reference{Locator: loc, Tag: "list"}, "tags", nil)
	if err != nil {
		return nil, nil, err
	}
	if perPage > 0 && page == "" {
		query := req.URL.Query()
		query.Set("n", strconv.Itoa(perPage))
		req.URL.RawQuery = query.Encode()
	}
	resp, err = r.getPage(req, loc, page)
	return resp, req.URL, err
}

// getPage sends req for a list's first page, or for the one that is named.
func (r *registry) getPage(req *http.Request, loc locator.Locator, page string) (*http.Response, error) {
	if page != "" {
		named, err := url.ParseRequestURI(page)
		if err != nil {
			return nil, broken("page: %v", err)
		}
		query := req.URL.Query()
		maps.Copy(query, named.Query())
		req.URL.Path, req.URL.RawPath, req.URL.RawQuery = named.Path, named.RawPath, query.Encode()
	}
	resp, err := r.do(req, loc)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, statusError(resp)
	}
	if err := checkEncoding(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// nextPage is the name of the page after the one at base, "" after the last.
func nextPage(base *url.URL, links []string) (string, error) {
	target, ok := nextLink(links)
	if !ok {
		return "", nil
	}
	u, err := base.Parse(target)
	if err != nil {
		return "", broken("%s: a link to %s", base.Host, quoteLine(target))
	}
	if u.Scheme != base.Scheme || u.Host != base.Host || u.User != nil {
		return "", broken("%s: the next page is on another origin: %s", base.Host, quoteLine(u.Redacted()))
	}
	if u.Path != base.Path { // elsewhere it could be anything, and redirect anywhere
		return "", broken("%s: the next page is none of the same list: %s", base.Host, quoteLine(u.Path))
	}
	return u.RequestURI(), nil
}

// A pageReader decodes a page of a list as it arrives.
type pageReader struct {
	body  io.Reader
	dec   *json.Decoder
	n     int64 // bytes read so far
	limit int64 // of n
}

// The bounds of what is decoded at a time: a piece of JSON, and how deep a
// value may lie in others.
const (
	maxPiece = 64 << 10
	maxDepth = 64
)

// Read reads no further ahead of what is decoded than a piece may be long.
func (t *pageReader) Read(p []byte) (int, error) {
	ahead := maxPiece - (t.n - t.dec.InputOffset())
	if ahead <= 0 {
		return 0, broken("a piece of JSON of more than %d bytes", maxPiece)
	}
	left := t.limit - t.n
	if left <= 0 {
		return 0, broken("more than %d bytes", t.limit)
	}
	n, err := t.body.Read(p[:min(int64(len(p)), ahead, left)])
	t.n += int64(n)
	return n, err
}

// readTags calls yield for each name in {"tags": […]}.
func (t *pageReader) readTags(yield func(string) error) error {
	return t.readList("tags", func() error {
		tok, err := t.dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return t.fault(err, "a tag is no string")
		}
		return yield(name)
	})
}

// readList calls each, which reads one, for each element of {key: […]}.
func (t *pageReader) readList(key string, each func() error) error {
	t.dec = json.NewDecoder(t)
	if tok, err := t.dec.Token(); err != nil || tok != json.Delim('{') {
		return t.fault(err, "no JSON object")
	}
	found := false
	for t.dec.More() {
		tok, err := t.dec.Token()
		if err != nil {
			return t.fault(err, "")
		}
		if tok != key {
			if err := t.skip(); err != nil {
				return err
			}
			continue
		}
		found = true
		if err := t.elements(key, each); err != nil {
			return err
		}
	}
	if _, err := t.dec.Token(); err != nil {
		return t.fault(err, "")
	}
	if !found {
		return broken("a list without %s", key)
	}
	return nil
}

// elements calls each for each element of an array, or of null.
func (t *pageReader) elements(key string, each func() error) error {
	tok, err := t.dec.Token()
	if err == nil && tok == nil {
		return nil
	}
	if err != nil || tok != json.Delim('[') {
		return t.fault(err, key+" is no list")
	}
	for t.dec.More() {
		if err := each(); err != nil {
			return err
		}
	}
	_, err = t.dec.Token()
	return t.fault(err, "")
}

// skip reads past a value.
func (t *pageReader) skip() error {
	for depth := 0; ; {
		tok, err := t.dec.Token()
		if err != nil {
			return t.fault(err, "")
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxDepth {
			return broken("JSON in JSON, more than %d deep", maxDepth)
		}
		if depth <= 0 {
			return nil
		}
	}
}

// fault is err, where the answer did not come, or that it makes no sense: why,
// or what the decoder says.
func (t *pageReader) fault(err error, why string) error {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case syntax:
		return broken("list: %s", oneLine(err.Error()))
	case errors.Is(err, io.EOF): // cut short
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case why != "":
		return broken("list: %s", why)
	}
	return nil
}

// ListTags finds the tags of a layout by their org.opencontainers.image.ref.name,
// bare or as the full reference. There is one page.
func (d layouts) ListTags(_ context.Context, loc locator.Locator, _ string, _ int64, yield func(string) error) (next string, n int64, err error) {
	root, err := d.open()
	if err != nil {
		return "", 0, err
	}
	defer root.Close()
	var stopped error
	_, err = findIn(root, loc, func(m *entry) bool {
		name := strings.TrimPrefix(m.Annotations.Name, loc.String()+":")
		if name != "" {
			stopped = yield(name)
		}
		return stopped != nil
	})
	return "", 0, errors.Join(err, stopped)
}
