package testregistry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers is the kind of requests for what refers to a manifest.
const Referrers Kind = "referrers" // /v2/…/referrers/<digest>

// answerReferrers answers with an index of the manifests whose subject is asked
// for, in the order of their digests, and a link to the next page if there is one.
func (r *Registry) answerReferrers(q *Request) *answer {
	query, err := url.ParseQuery(q.Query)
	if err != nil || r.opts.NoReferrers {
		return refusal(http.StatusNotFound, "NOT_FOUND")
	}
	list := []ocispec.Descriptor{}
	for _, desc := range r.referrers(q.Repo, digest.Digest(q.Ref)) {
		if desc.Digest.String() > query.Get("last") {
			list = append(list, desc)
		}
	}
	more := false
	if n := r.opts.ReferrersPage; n > 0 && n < len(list) {
		list, more = list[:n], true
	}
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": list})
	if err != nil {
		return refusal(http.StatusInternalServerError, "UNKNOWN")
	}
	a := plain(http.StatusOK, ocispec.MediaTypeImageIndex, string(b))
	if more {
		query.Set("last", list[len(list)-1].Digest.String())
		a.header.Set("Link", fmt.Sprintf(`</v2/%s/referrers/%s?%s>; rel="next"`, q.Repo, q.Ref, query.Encode()))
	}
	return a
}

// referrers returns the manifests of repo whose subject is dgst, sorted.
func (r *Registry) referrers(repo string, dgst digest.Digest) []ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []ocispec.Descriptor
	rep := r.repos[repo]
	if rep == nil {
		return nil
	}
	for id, o := range rep.manifests {
		var m ocispec.Manifest
		b, err := io.ReadAll(o.open(0))
		if err != nil || json.Unmarshal(b, &m) != nil || m.Subject == nil || m.Subject.Digest != dgst {
			continue
		}
		if m.ArtifactType == "" {
			m.ArtifactType = m.Config.MediaType
		}
		list = append(list, ocispec.Descriptor{MediaType: o.mediaType, Digest: id, Size: o.size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return list
}
