package testregistry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Tags is the kind of requests for a page of a repository's tags.
const Tags Kind = "tags" // /v2/…/tags/list

// tagsOf returns the repository whose tags a path asks for.
func tagsOf(path string) (repo string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "/tags/list")
}

// answerTags answers with the tags behind last in their order, n of them at
// most, and a link to the next page if there is one.
func (r *Registry) answerTags(q *Request) *answer {
	query, err := url.ParseQuery(q.Query)
	if err != nil {
		return refusal(http.StatusBadRequest, "UNSUPPORTED")
	}
	r.mu.Lock()
	rep := r.repos[q.Repo]
	names := []string{}
	if rep != nil {
		for name := range rep.tags {
			if name > query.Get("last") {
				names = append(names, name)
			}
		}
	}
	r.mu.Unlock()
	if rep == nil {
		return refusal(http.StatusNotFound, "NAME_UNKNOWN")
	}
	slices.Sort(names)
	more := false
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n < len(names) {
		names, more = names[:n], true
	}
	b, err := json.Marshal(map[string]any{"name": q.Repo, "tags": names})
	if err != nil {
		return refusal(http.StatusInternalServerError, "UNKNOWN")
	}
	a := plain(http.StatusOK, "application/json", string(b))
	if more {
		query.Set("last", names[len(names)-1])
		a.header.Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, q.Repo, query.Encode()))
	}
	return a
}
